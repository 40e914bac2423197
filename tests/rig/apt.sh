# own_apt FOLDER [ARCH]: from here on apt-get keeps its state in FOLDER and knows nothing but Debian's own sources
# of this machine, as a third party's rarely carry other architectures or source packages: those of ARCH, or,
# without it, of this machine with the source packages. Sourced, after cross/common.sh.
# shellcheck shell=bash
own_apt() {
    local folder=$1 arch=${2:-} file edit
    mkdir -p "$folder"/{lists,archives}/partial "$folder"/{sources,nothing}
    : > "$folder/status"
    # They may pin an architecture.
    edit='/^Architectures:/d; s/arch=[^] ]+//'
    [ -n "$arch" ] || edit='s/^Types:.*/Types: deb deb-src/; s/^deb (.*)/deb \1\ndeb-src \1/'
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        grep -Eqs 'debian-archive-keyring|/debian(-security)?([/ ]|$)' "$file" || continue
        sed -E "$edit" "$file" > "$folder/sources/${file##*/}"
    done
    {
        [ -z "$arch" ] || printf '%s\n' "APT::Architecture \"$arch\";" "APT::Architectures { \"$arch\"; };"
        cat << CONF
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$folder";
Dir::State::Lists "$folder/lists";
Dir::State::status "$folder/status";
Dir::Cache "$folder";
Dir::Cache::Archives "$folder/archives";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$folder/sources";
Dir::Etc::PreferencesParts "$folder/nothing";
CONF
    } > "$folder/apt.conf"
    export APT_CONFIG=$folder/apt.conf
    # The main suite is enough, where another one's index is out of step.
    quietly apt-get -q update || note "not every index could be fetched; going on with the rest"
}

# Stands in for the packages feed's: the program was built by cross/build.

# A condition, which no package carries.
RUST_ARCH_DEPENDS := @rust

define RustBinPackage
endef

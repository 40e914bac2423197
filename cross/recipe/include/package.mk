# Stands in for OpenWrt's package.mk, package-defaults.mk and package-pack.mk: BuildPackage runs
# the recipe's install part and writes its fields, for cross/pack. What a field becomes there is
# OpenWrt's doing (Package/Default, PKG_FIXUP_DEPENDS, filter_deps); what this cannot do it refuses.

PKG_BUILD_DIR := $(ROOT)
PKG_INSTALL_DIR := $(PROGRAM)

define Package/Default
  SECTION :=
  URL :=
  USERID :=
  MAINTAINER := $(PKG_MAINTAINER)
  LICENSE := $(PKG_LICENSE)
  LICENSE_FILES := $(PKG_LICENSE_FILES)
  SOURCE := $(patsubst $(ROOT)/%,%,$(CURDIR))
  VERSION := $(PKG_VERSION)-r$(PKG_RELEASE)
endef

refused_fields := ABI_VERSION ALTERNATIVES CONFLICTS EXTRA_DEPENDS PROVIDES VARIANT
refused_parts := preinst install-overlay

# Every package needs libc there. Conditions (@...) are the build's own.
depends = libc $(filter-out libc,$(patsubst +%,%,$(filter-out @%,$(DEPENDS))))

# field NAME,VALUE
field = $(file >$(META)/$(1),$(2))

define BuildPackage
$(eval $(Package/Default))
$(eval $(Package/$(1)))
$(foreach each,$(refused_fields),$(if $($(each)),$(error cross/recipe does not know $(each))))
$(foreach each,$(refused_parts),$(if $(value Package/$(1)/$(each)),$(error cross/recipe does not know Package/$(1)/$(each))))
$(if $(findstring :,$(DEPENDS)),$(error cross/recipe does not know conditional dependencies: $(DEPENDS)))

.PHONY: package fields
package: fields
	$$(call Package/$(1)/install,$$(STAGE))

fields:
	$$(call field,name,$(1))
	$$(call field,pkg_version,$$(PKG_VERSION))
	$$(call field,version,$$(VERSION))
	$$(call field,section,$$(SECTION))
	$$(call field,license,$$(LICENSE))
	$$(call field,license_files,$$(LICENSE_FILES))
	$$(call field,maintainer,$$(MAINTAINER))
	$$(call field,url,$$(URL))
	$$(call field,source,$$(SOURCE))
	$$(call field,user,$$(USERID))
	$$(call field,depends,$$(depends))
	$$(call field,description,$$(Package/$(1)/description))
	$$(call field,conffiles,$$(Package/$(1)/conffiles))
	$$(foreach each,postinst prerm postrm,$$(if $$(value Package/$(1)/$$(each)),$$(call field,$$(each),$$(Package/$(1)/$$(each)))))
endef

//! Error, and disconnected under lockdown: nothing but the provider's API (contract, section 3).

use super::compose::Composer;
use super::rows;

pub(super) fn compose(c: &mut Composer<'_>, api: bool) {
    if api {
        rows::api::outside_the_tunnel(c);
    }
}

//! In the place of libunwind: a program that aborts has no tables by which to walk its stack, so nobody may ask,
//! and who asks for a backtrace gets none. libunwind is some 40 KB on mips, with what it takes of libc's.
//!
//! All that Rust's standard library refers to (library/unwind, library/backtrace): were one missing, the
//! linker would take libunwind's object with it, and the others would be there twice.

use std::ffi::c_int;

/// `_URC_END_OF_STACK` (Itanium C++ ABI: Exception Handling, 1.2.1).
const END_OF_STACK: c_int = 5;

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace() -> c_int {
    END_OF_STACK
}

macro_rules! nobody_asks {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )*};
}

nobody_asks! {
    _Unwind_DeleteException _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetGR
    _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase
    _Unwind_RaiseException _Unwind_Resume _Unwind_SetGR _Unwind_SetIP
}

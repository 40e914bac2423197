//! ctnetlink's answers: cut into messages, read as flows, and asked to be deleted again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnd::firewall::conntrack::fuzzing_deletions;
use vpnd_fuzz::bounded;

/// `IPCTNL_MSG_CT_NEW` as `nlmsg_type`: an answer of the kernel.
const NEW: u16 = 1 << 8;

fuzz_target!(|data: &[u8]| {
    let deletions = bounded(data.len(), 40, 4096, || fuzzing_deletions(data));
    for (flow, mut request) in deletions {
        assert!(request.len() % 4 == 0 && request.len() <= data.len() + 64);
        let length = u32::from_ne_bytes(request[..4].try_into().expect("a header"));
        assert!(length as usize <= request.len());
        // As an answer, the request names the same connection: it deletes no other.
        request[4..6].copy_from_slice(&NEW.to_ne_bytes());
        let again = fuzzing_deletions(&request);
        let [(_, twice)] = &again[..] else { panic!("{} messages out of one", again.len()) };
        request[4..6].copy_from_slice(&twice[4..6]);
        assert_eq!(&request, twice, "{flow:?}");
    }
});

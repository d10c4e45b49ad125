//! Route netlink messages, for the parser of events, links and FDB entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethpath::fuzzing;

/// RTM_NEWLINK, RTM_DELLINK, RTM_NEWNEIGH, RTM_DELNEIGH, RTM_NEWQDISC, RTM_NEWTFILTER, RTM_NEWADDR.
const KINDS: [u16; 7] = [16, 17, 28, 29, 36, 44, 20];

fuzz_target!(|bytes: &[u8]| {
    // The raw input, and the input as payload behind a header with the correct length.
    fuzzing::events(bytes);
    if let Some((kind, payload)) = bytes.split_first() {
        fuzzing::events(&message(KINDS[usize::from(*kind) % KINDS.len()], payload));
    }
});

fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).expect("the fuzzer's inputs are short");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(payload);
    message
}

//! No input makes the parser panic or take long.

use super::{
    super::{LONGEST_FILE, expand},
    bad, parse, samples, show,
};

/// xorshift64*, with the same sequence in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).expect("31 bits") % limit
    }
}

/// Reads and renders, and ignores the result. A valid lab is also expanded.
fn survives(text: &str) {
    match parse(text) {
        Ok(lab) => {
            let written = expand(&lab).to_string();
            if written.len() <= LONGEST_FILE {
                assert_eq!(parse(&written).as_ref(), Ok(&lab), "of\n{text}\nto\n{written}");
            }
        }
        Err(faults) => {
            assert!(!faults.faults.is_empty());
            for fault in &faults.faults {
                assert!(!fault.hint.is_empty() && !fault.message.is_empty(), "{fault:?}");
                assert!(fault.span.end <= text.len(), "{fault:?} of {} bytes", text.len());
            }
            assert!(show(&faults, text).contains("hint: "));
        }
    }
}

#[test]
fn mutated_files_do_not_panic() {
    const PIECES: &[&str] = &[
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "\"\"\"",
        "=",
        ",",
        ".",
        ":",
        "\n",
        "\r",
        "#",
        "\0",
        "é",
        "\u{feff}",
        "\u{202e}",
        "1",
        "-1",
        "0x10",
        "99999999999999999999",
        "1.5",
        "true",
        "1979-05-27",
        "host",
        "namespace",
        "interface",
        "bridge",
        "[[bridge]]\n",
        "[namespace.ns0]\n",
        "link = \"host:v0\"\n",
        "[namespace.host]\n",
        "trunks = [\"br0\", \"br1\"]\n",
        "mtu = 68\n",
        "[group.h]\ncount = 3\nbridge = \"br0\"\n",
        "[mesh.m]\ncount = 3\n",
        "[chain.br]\nbridges = 3\n",
        "subnet = \"10.0.0.0/28\"\n",
        "/",
        "::1/64",
    ];
    let samples: Vec<String> = samples().into_iter().map(|(_, text)| text).collect();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..3000 {
        let mut text: Vec<char> = samples[round % samples.len()].chars().collect();
        for _ in 0..=random.below(4) {
            let at = random.below(text.len().max(1));
            let piece = PIECES[random.below(PIECES.len())];
            match random.below(4) {
                0 => drop(text.splice(at..at, piece.chars())),
                1 => drop(text.splice(at..(at + random.below(12)).min(text.len()), piece.chars())),
                2 => text.truncate(at),
                _ => {
                    let other = &samples[random.below(samples.len())];
                    drop(text.splice(at..at, other.chars().take(random.below(200))));
                }
            }
        }
        survives(&text.into_iter().collect::<String>());
    }
}

#[test]
fn noise_does_not_panic() {
    let mut random = Random(42);
    for _ in 0..2000 {
        let length = random.below(60);
        let text: String =
            (0..length).map(|_| char::from(u8::try_from(random.below(128)).expect("ASCII"))).collect();
        survives(&text);
    }
}

#[test]
fn monsters_end_soon() {
    let start = super::cpu_time();
    for monster in [
        "a.".repeat(500_000),
        "a".repeat(1 << 20),
        format!("a = {}", "[".repeat(1_000_000)),
        format!("a = {}", "{a=".repeat(300_000)),
        format!("[{}]", "a.".repeat(400_000)),
        "x\n".repeat(100_000),
        "x = 1\n".repeat(150_000),
        "[a]\n".repeat(200_000),
        "\"".repeat(1 << 20),
        (0..60_000).map(|n| format!("[bridge.b{n}]\n")).collect(),
        (0..30_000).map(|n| format!("[bridge.b{n}]\nx{n} = 1\n")).collect(),
        (0..4096).map(|n| format!("[namespace.n{n}.interface.e]\nlink = \"m{n}:e\"\n")).collect(),
        format!("[bridge.b]\naddresses = [{}]", "\"10.0.0.1/24\",".repeat(70_000)),
    ] {
        survives(&monster);
    }
    let taken = super::cpu_time() - start;
    assert!(taken.as_secs() < 60, "{taken:?}");
}

#[test]
fn a_file_has_a_limit() {
    let faults = bad(&"#".repeat((1 << 20) + 1));
    assert_eq!(faults.faults.len(), 1);
    assert!(faults.faults[0].message.contains("1048576 is the most"));
}

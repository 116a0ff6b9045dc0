//! Inputs for both detectors: made of fragments, or mutated from texts that mean something.
//!
//! Everything follows from a number, so that a failure repeats.

use fastrand::Rng;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

/// Texts of our own, one a line, unprintable bytes as `\xHH`.
const OWN: &str = include_str!("../data/seeds.txt");
/// Longer ones are cut: what decides is near the beginning.
const LONGEST: usize = 600;

/// What inputs are made from.
pub struct Seeds {
    texts: Vec<Vec<u8>>,
    fragments: &'static [&'static str],
}

impl Seeds {
    /// Our own texts, and those of the shared folder beside the checkout when it is there: the inputs of the vectors, and
    /// the decoded arguments of the WAF corpora.
    pub fn new(fragments: &'static [&'static str]) -> Seeds {
        let mut texts: Vec<Vec<u8>> = OWN.lines().map(unescape).collect();
        texts.extend(vector_inputs());
        for corpus in ["waf-payloads", "waf-gotestwaf", "waf-benign"] {
            texts.extend(corpus_arguments(corpus));
        }
        for text in &mut texts {
            text.truncate(LONGEST);
        }
        texts.retain(|text| !text.is_empty());
        texts.sort();
        texts.dedup();
        Seeds { texts, fragments }
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// One input in four is made of fragments, the others are mutations of a text.
    pub fn input(&self, random: &mut Rng) -> Vec<u8> {
        if random.usize(..4) == 0 {
            return self.assembled(random);
        }
        let mut input = self.text(random).to_vec();
        for _ in 0..1 + random.usize(..6) {
            self.mutate(&mut input, random);
        }
        input.truncate(2 * LONGEST);
        input
    }

    fn text(&self, random: &mut Rng) -> &[u8] {
        &self.texts[random.usize(..self.texts.len())]
    }

    fn assembled(&self, random: &mut Rng) -> Vec<u8> {
        let mut input = Vec::new();
        for _ in 0..1 + random.usize(..12) {
            match random.usize(..8) {
                0 => input.push(random.u8(..)),
                1 => input.push(b" '\"-/*#@<>=`\0\xFF\xA0\x0B"[random.usize(..16)]),
                _ => input.extend(self.fragments[random.usize(..self.fragments.len())].bytes()),
            }
            if random.usize(..3) == 0 {
                input.push(b' ');
            }
        }
        input
    }

    fn mutate(&self, input: &mut Vec<u8>, random: &mut Rng) {
        let at = random.usize(..input.len() + 1);
        let end = at + random.usize(..(input.len() - at).min(24) + 1);
        match random.usize(..10) {
            0 if at < input.len() => input[at] = random.u8(..),
            1 if at < input.len() => input[at] ^= 1 << random.usize(..8),
            2 if at < input.len() => input[at] ^= 0x20,
            3 => drop(input.drain(at..end)),
            4 => {
                let copy = input[at..end].to_vec();
                let to = random.usize(..input.len() + 1);
                drop(input.splice(to..to, copy));
            }
            5 => {
                let other = self.text(random);
                let from = random.usize(..other.len());
                let until = from + random.usize(..(other.len() - from).min(40) + 1);
                let piece = other[from..until].to_vec();
                drop(input.splice(at..end, piece));
            }
            6 => input.truncate(at),
            7 => {
                let other = self.text(random).to_vec();
                input.truncate(at);
                input.extend(&other[random.usize(..other.len())..]);
            }
            8 => drop(input.splice(at..at, [b"\0 \t\n\x0B\x0C\r\xA0\x7F\xFF"[random.usize(..10)]])),
            _ => {
                let piece = self.fragments[random.usize(..self.fragments.len())].bytes();
                drop(input.splice(at..at, piece));
            }
        }
    }
}

fn unescape(line: &str) -> Vec<u8> {
    let bytes = line.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = line.get(at..at + 4).and_then(|piece| piece.strip_prefix("\\x"));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                text.push(byte);
                at += 4;
            }
            None => {
                text.push(bytes[at]);
                at += 1;
            }
        }
    }
    text
}

fn shared(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(folder)
}

fn vector_inputs() -> Vec<Vec<u8>> {
    let folder = env::var_os("SALLYPORT_LIBINJECTION_VECTORS")
        .map_or_else(|| shared("libinjection-vectors"), PathBuf::from);
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let text = fs::read(file.path()).ok()?;
            let place = |mark: &[u8]| text.windows(mark.len()).position(|window| window == mark);
            let from = place(b"--INPUT--\n")? + b"--INPUT--\n".len();
            let until = place(b"--EXPECTED--")?;
            text.get(from..until).map(|input| input.trim_ascii_end().to_vec())
        })
        .collect()
}

/// Arguments in targets and bodies, percent-decoded.
fn corpus_arguments(corpus: &str) -> Vec<Vec<u8>> {
    let path = shared("corpora").join(corpus).join("requests.json");
    let Ok(text) = fs::read(path) else { return Vec::new() };
    let Ok(document) = serde_json::from_slice::<Value>(&text) else { return Vec::new() };
    let mut found = Vec::new();
    for case in document["cases"].as_array().into_iter().flatten() {
        for field in ["target", "body"] {
            let Some(text) = case[field].as_str() else { continue };
            for piece in text.split(['&', '?', '=']).filter(|piece| piece.len() > 2) {
                found.push(percent_decoded(piece));
            }
        }
    }
    found
}

fn percent_decoded(text: &str) -> Vec<u8> {
    // In a corpus one character is one byte.
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match (bytes[at], digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

//! The string code of HPACK. Source: RFC 7541 §5.2, appendix B.

use std::sync::LazyLock;

/// Bits of each byte's code. The code is canonical: codes of one length follow one another in the order of their
/// bytes, so that the lengths say everything; the end-of-string code is the last one of 30 bits.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const EOS_LENGTH: u8 = 30;
const EOS: u16 = 256;

/// What four more bits lead to. No code is shorter than five, so they end one at most.
#[derive(Clone, Copy)]
struct Step {
    next: u8,
    symbol: u8,
    has_symbol: bool,
    /// The end-of-string code inside a string.
    is_fault: bool,
}

struct Tables {
    /// By inner node of the code's tree (0 = root) and four bits.
    steps: Vec<[Step; 16]>,
    /// A string may end at this node: what is left of it is the beginning of the end-of-string code, below eight bits.
    may_end: Vec<bool>,
    /// Code and length by byte.
    codes: Vec<(u32, u8)>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::new);

#[derive(Clone, Copy)]
enum Child {
    None,
    Node(u8),
    Leaf(u16),
}

impl Tables {
    fn new() -> Self {
        let mut symbols: Vec<u16> = (0..=EOS).collect();
        let length_of = |symbol: u16| LENGTHS.get(symbol as usize).copied().unwrap_or(EOS_LENGTH);
        symbols.sort_by_key(|symbol| (length_of(*symbol), *symbol));
        let mut codes = vec![(0, 0); 256];
        let mut children = vec![[Child::None; 2]];
        let mut depths = vec![(0u8, true)];
        let (mut code, mut last) = (0u32, 0u8);
        for symbol in symbols {
            let length = length_of(symbol);
            code <<= length - last;
            last = length;
            if let Some(place) = codes.get_mut(symbol as usize) {
                *place = (code, length);
            }
            let mut node = 0usize;
            for bit in (0..length).rev() {
                let side = (code >> bit & 1) as usize;
                if bit == 0 {
                    children[node][side] = Child::Leaf(symbol);
                } else if let Child::Node(next) = children[node][side] {
                    node = next as usize;
                } else {
                    // 257 leaves make 256 inner nodes.
                    children[node][side] = Child::Node(children.len() as u8);
                    depths.push((depths[node].0 + 1, depths[node].1 && side == 1));
                    node = children.len();
                    children.push([Child::None; 2]);
                }
            }
            code += 1;
        }
        let steps = (0..children.len())
            .map(|start| std::array::from_fn(|bits| Tables::step(&children, start, bits)))
            .collect();
        let may_end = depths.iter().map(|(depth, is_ones)| *is_ones && *depth < 8).collect();
        Tables { steps, may_end, codes }
    }

    fn step(children: &[[Child; 2]], start: usize, bits: usize) -> Step {
        let mut step = Step { next: 0, symbol: 0, has_symbol: false, is_fault: false };
        let mut node = start;
        for bit in (0..4).rev() {
            match children[node][bits >> bit & 1] {
                Child::Node(next) => node = next as usize,
                Child::Leaf(EOS) => step.is_fault = true,
                Child::Leaf(symbol) => {
                    (step.symbol, step.has_symbol) = (symbol as u8, true);
                    node = 0;
                }
                Child::None => step.is_fault = true,
            }
        }
        step.next = node as u8;
        step
    }
}

/// Appends the decoded string. False: the code ends wrongly (RFC 7541 §5.2), which ends the connection.
pub(crate) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let tables = &*TABLES;
    let mut node = 0usize;
    for byte in coded {
        for bits in [byte >> 4, byte & 15] {
            let step = tables.steps[node][bits as usize];
            if step.is_fault {
                return false;
            }
            if step.has_symbol {
                out.push(step.symbol);
            }
            node = step.next as usize;
        }
    }
    tables.may_end[node]
}

/// Bytes that `encode` makes of a string.
pub(crate) fn encoded_length(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| LENGTHS[*byte as usize] as usize).sum();
    bits.div_ceil(8)
}

/// Appends the coded string.
pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let codes = &TABLES.codes;
    let (mut bits, mut count) = (0u64, 0u32);
    for byte in text {
        let (code, length) = codes[*byte as usize];
        bits = bits << length | u64::from(code);
        count += u32::from(length);
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_7541_appendix_c() {
        for (text, coded) in [
            (&b"www.example.com"[..], &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..]),
            (b"no-cache", b"\xa8\xeb\x10\x64\x9c\xbf"),
            (b"custom-value", b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
            (b"302", b"\x64\x02"),
            (b"", b""),
        ] {
            let (mut out, mut back) = (Vec::new(), Vec::new());
            encode(text, &mut out);
            assert_eq!(out, coded);
            assert_eq!(encoded_length(text), coded.len());
            assert!(decode(coded, &mut back));
            assert_eq!(back, text);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let (mut out, mut back) = (Vec::new(), Vec::new());
        encode(&all, &mut out);
        assert!(decode(&out, &mut back));
        assert_eq!(back, all);
    }

    #[test]
    fn padding_is_the_beginning_of_the_end_of_string_code_and_short() {
        // `0` is 00000: three bits of padding.
        assert!(decode(&[0x07], &mut Vec::new()));
        assert!(!decode(&[0x00], &mut Vec::new()), "zeros");
        assert!(!decode(&[0x07, 0xff], &mut Vec::new()), "eleven bits");
        assert!(!decode(&[0xff, 0xff, 0xff, 0xff], &mut Vec::new()), "the code itself");
    }
}

//! Each target over its seeds, over the inputs that were kept, and over changes to both: the same ones every time, and
//! few enough for every run of the tests.

use fastrand::Rng;
use sallyport_fuzz_targets::TARGETS;
use std::path::Path;

#[test]
fn what_was_kept_and_changes_to_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for target in TARGETS {
        let mut inputs: Vec<Vec<u8>> = target.seeds.iter().map(|seed| seed.to_vec()).collect();
        let mut files: Vec<_> = std::fs::read_dir(folder.join(target.name))
            .map(|files| files.map(|file| file.expect("an entry").path()).collect())
            .unwrap_or_default();
        files.sort();
        inputs.extend(files.iter().map(|file| std::fs::read(file).expect("an input")));
        for input in &inputs {
            (target.run)(input);
        }
        let mut random = Rng::with_seed(0x2545_f491_4f6c_dd1d);
        for _ in 0..target.changes {
            let mut input = inputs[random.usize(..inputs.len())].clone();
            for _ in 0..=random.usize(..4) {
                change(&mut input, &inputs, &mut random);
            }
            (target.run)(&input);
        }
        println!("{}: {} inputs, {} changes", target.name, inputs.len(), target.changes);
    }
}

#[test]
fn each_target_has_its_binary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
    for target in TARGETS {
        let file = format!("fuzz_targets/{}.rs", target.name);
        let text = std::fs::read_to_string(folder.join(&file)).unwrap_or_default();
        assert!(text.contains(&format!("::{}(bytes)", target.name)), "{file}");
        assert!(manifest.contains(&format!("path = \"{file}\"")), "no [[bin]] for {file}");
    }
}

fn change(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Rng) {
    const BYTES: &[u8] = b"\r\n \t:;=\",/?#%\\0159aFGz\0\x7f\x80\xff-_";
    const LONGEST: usize = 4096;
    let at = random.usize(..input.len() + 1);
    match random.usize(..7) {
        0 if at < input.len() => input[at] = BYTES[random.usize(..BYTES.len())],
        1 if at < input.len() => input[at] = random.usize(..256) as u8,
        2 if at < input.len() => drop(input.drain(at..input.len().min(at + 1 + random.usize(..8)))),
        3 => input.insert(at, BYTES[random.usize(..BYTES.len())]),
        4 => {
            let end = input.len().min(at + random.usize(..40));
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let other = &others[random.usize(..others.len())];
            let start = random.usize(..other.len() + 1);
            let end = other.len().min(start + random.usize(..60));
            input.splice(at..at, other[start..end].iter().copied());
        }
        _ => input.truncate(at),
    }
    input.truncate(LONGEST);
}

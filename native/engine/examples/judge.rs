//! Judges a saved request by the rules of a folder, and prints what matched.
//!
//! `cargo run --release --example judge -- FOLDER REQUEST`: FOLDER holds `*.conf`, or is an unpacked release of the Core
//! Rule Set (`crs-setup.conf.example` and `rules/`); REQUEST is a file with a request as it goes over the wire.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use sallyport_engine::{
    references, Client, Profile, ProfileOptions, RuleSet, SourceFile, Transaction,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, request] = arguments.as_slice() else {
        eprintln!("usage: judge FOLDER REQUEST");
        return ExitCode::FAILURE;
    };
    match judge(Path::new(folder), Path::new(request)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn judge(folder: &Path, request: &Path) -> Result<String, String> {
    let files = rule_files(folder)?;
    let data = named_files(&files);
    let set = RuleSet::load(&files, &data, &[]).map_err(|errors| errors.to_string())?;
    let profile = Arc::new(Profile::new(Arc::new(set), ProfileOptions::default()));

    let bytes =
        std::fs::read(request).map_err(|error| format!("{}: {error}", request.display()))?;
    let end =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 2);
    let (head, rest) = bytes.split_at(end);
    let body = rest.get(2..).filter(|body| !body.is_empty());
    let client = Client::parse(b"192.0.2.1 40000 127.0.0.1 80 request-1");
    let mut transaction = Transaction::request(&profile, &client, head, body);
    transaction.finish();

    let mut text = String::new();
    for entry in transaction.matches() {
        let (variable, value) = (&entry.variable, &entry.value);
        text.push_str(&format!("{} {} | {variable} = {value}\n", entry.id, entry.message));
    }
    text.push_str(&match transaction.interruption() {
        Some(stop) => format!("stopped by rule {} with {}\n", stop.rule_id, stop.status),
        None => "passes\n".to_string(),
    });
    Ok(text)
}

/// The engine's own settings, the set-up, and the rules by name.
fn rule_files(folder: &Path) -> Result<Vec<SourceFile>, String> {
    let mut paths = vec![folder.join("crs-setup.conf.example"), folder.join("crs-setup.conf")];
    paths.retain(|path| path.is_file());
    let rules =
        if folder.join("rules").is_dir() { folder.join("rules") } else { folder.to_path_buf() };
    let listed =
        std::fs::read_dir(&rules).map_err(|error| format!("{}: {error}", rules.display()))?;
    let mut found: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    found.retain(|path| !paths.contains(path));
    found.sort();
    if found.is_empty() {
        return Err(format!("no *.conf in {}", rules.display()));
    }
    paths.extend(found);
    let mut files = vec![SourceFile::new("engine.conf", "Include @recommended\nSecRuleEngine On")];
    files.extend(paths.iter().filter_map(|path| read(path)));
    Ok(files)
}

/// The lists that rules name; one that is not there is an error of the load.
fn named_files(files: &[SourceFile]) -> Vec<SourceFile> {
    let paths: BTreeSet<String> =
        files.iter().flat_map(references).map(|reference| reference.path).collect();
    paths.iter().filter_map(|path| read(Path::new(path))).collect()
}

fn read(path: &Path) -> Option<SourceFile> {
    let text = std::fs::read(path).ok()?;
    Some(SourceFile::new(path.to_string_lossy(), String::from_utf8_lossy(&text)))
}

//! SecLang text to a rule set: whatever the text, there is a rule set or errors with places in it.

use sallyport_engine::{references, RuleSet, SourceFile};

/// Loads the text as rules, with a list beside it.
pub fn rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let source = SourceFile::new("rules/fuzz.conf", text);
    for reference in references(&source) {
        assert!(reference.position.line >= 1, "{reference:?}");
    }
    let beside = SourceFile::new("rules/list.data", "one\n# two\nthree four\n");
    match RuleSet::load(std::slice::from_ref(&source), &[beside], &[1, 2]) {
        Ok(set) => {
            let summary = set.summary();
            assert_eq!(summary.phases.iter().sum::<usize>(), summary.rules);
        }
        Err(errors) => {
            assert!(!errors.diagnostics.is_empty());
            for error in &errors.diagnostics {
                assert!(!error.message.is_empty() && !error.code.is_empty(), "{error:?}");
                if error.path == source.path {
                    let line = source.text.split('\n').nth(error.line as usize - 1);
                    let line = line.unwrap_or_else(|| panic!("no such line: {error:?}"));
                    assert!(error.column as usize <= line.len() + 1, "{error:?}");
                }
            }
        }
    }
}

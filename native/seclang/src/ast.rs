//! The syntax tree.

use crate::line::Argument;
use crate::source::Position;

/// Everything the sources say, in order of evaluation (includes already in place).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Paths of the files, indexed by [`Position::file`].
    pub files: Vec<String>,
    /// The directives in order.
    pub directives: Vec<Directive>,
}

/// One directive with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Directive {
    /// Where its name begins.
    pub position: Position,
    /// What it says.
    pub kind: DirectiveKind,
}

/// The directives of SecLang.
#[derive(Clone, Debug, PartialEq)]
pub enum DirectiveKind {
    /// `SecRule VARIABLES OPERATOR [ACTIONS]`
    Rule(Rule),
    /// `SecAction ACTIONS`
    Action(Vec<Action>),
    /// `SecMarker LABEL`
    Marker(String),
    /// `SecDefaultAction ACTIONS`
    DefaultAction(Vec<Action>),
    /// `SecComponentSignature TEXT`
    ComponentSignature(String),
    /// `SecRuleUpdateTargetById`, `…ByTag`, `…ByMsg`
    UpdateTarget {
        /// Which rules.
        scope: Scope,
        /// Targets to append, most often exclusions.
        targets: Vec<Target>,
        /// Targets that the new ones replace (third argument), if given.
        replaced: Vec<Target>,
    },
    /// `SecRuleUpdateActionById ID[:LINK] ACTIONS`
    UpdateAction {
        /// The rule's id.
        id: u32,
        /// Which link of its chain, 0 for the starter.
        link: usize,
        /// Actions to merge in.
        actions: Vec<Action>,
    },
    /// `SecRuleRemoveById`, `…ByTag`, `…ByMsg`
    Remove(Scope),
    /// A rule written in another language (`SecRuleScript FILE ACTIONS`).
    Script {
        /// The script's file.
        file: String,
        /// Its actions.
        actions: Vec<Action>,
    },
    /// An engine setting such as `SecRequestBodyLimit`.
    Setting(Setting),
}

/// `SecRule`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The variables argument.
    pub targets: Vec<Target>,
    /// The operator argument.
    pub operator: OperatorText,
    /// The actions argument; empty when absent.
    pub actions: Vec<Action>,
}

/// One entry of a variables argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it begins.
    pub position: Position,
    /// `&`: the number of members instead of the members.
    pub count: bool,
    /// `!`: not these members.
    pub exclude: bool,
    /// Name of the variable as written.
    pub variable: String,
    /// The part after the colon.
    pub selector: Option<Selector>,
}

/// The part of a target after the colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A member's name (or an XPath expression).
    Name(String),
    /// A regular expression, written between slashes.
    Regex(String),
}

/// The operator argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorText {
    /// Where it begins.
    pub position: Position,
    /// A leading `!`.
    pub negated: bool,
    /// Name without `@`; `rx` when none is written.
    pub name: String,
    /// Everything after the name and the blanks that follow it.
    pub argument: String,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Where its name begins.
    pub position: Position,
    /// Name as written.
    pub name: String,
    /// Value after the colon, quotes removed; `None` without a colon.
    pub value: Option<String>,
}

impl Action {
    /// Whether this is the named action, ignoring case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value, or the empty text.
    pub fn text(&self) -> &str {
        self.value.as_deref().unwrap_or("")
    }
}

/// Ids from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id.
    pub first: u32,
    /// Last id.
    pub last: u32,
}

impl IdRange {
    /// Reads `N` or `N-M`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (first.trim().parse().ok()?, last.trim().parse().ok()?),
            None => {
                let id = text.parse().ok()?;
                (id, id)
            }
        };
        (first <= last).then_some(IdRange { first, last })
    }

    /// Whether the id lies in the range.
    pub fn contains(&self, id: u32) -> bool {
        (self.first..=self.last).contains(&id)
    }
}

/// Which rules an update or removal means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Rules with these ids.
    Ids(Vec<IdRange>),
    /// Rules with a tag in which this regular expression is found.
    Tag(String),
    /// Rules with a message in which this regular expression is found.
    Message(String),
}

/// An engine setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The directive's name in its usual spelling.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: Vec<Argument>,
}

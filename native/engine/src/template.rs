//! Texts with macros: `%{VARIABLE}` and `%{COLLECTION.member}`.
//!
//! Source: `seclang.md` section 10.3.

use crate::tx::{TxNames, TxSlot};
use crate::variable::{is_unsupported_variable, Variable};

/// A text to be expanded when it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) parts: Vec<Part>,
}

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// As it stands.
    Text(Box<[u8]>),
    /// A member of `TX`.
    Tx(TxSlot),
    /// Another variable: its first value, or that of the named member.
    Variable {
        /// The variable.
        variable: Variable,
        /// Lower-cased name of the member.
        member: Option<Box<[u8]>>,
    },
}

/// Why a template does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// No such variable.
    Unknown(String),
    /// A variable that is not provided here.
    Unsupported(String),
}

impl TemplateError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            TemplateError::Unknown(_) => "unknown-variable",
            TemplateError::Unsupported(_) => "unsupported",
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            TemplateError::Unknown(name) => format!("unknown variable in the macro %{{{name}}}"),
            TemplateError::Unsupported(name) => {
                format!("the macro %{{{name}}} is not supported")
            }
        }
    }
}

impl Template {
    /// Whether it names nothing but members of `TX`.
    pub(crate) fn is_of_tx(&self) -> bool {
        self.parts.iter().all(|part| !matches!(part, Part::Variable { .. }))
    }

    /// Whether it names a member of `TX`, or a text that may.
    pub(crate) fn names_tx(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Text(_) => false,
            Part::Tx(_) => true,
            Part::Variable { variable, .. } => {
                matches!(variable, Variable::Tx | Variable::Rule | Variable::Env)
            }
        })
    }

    /// The text, if it holds no macro.
    pub(crate) fn as_plain(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The member of `TX` that is all it names.
    pub(crate) fn as_tx(&self) -> Option<TxSlot> {
        match self.parts.as_slice() {
            [Part::Tx(slot)] => Some(*slot),
            _ => None,
        }
    }

    /// The text before the first macro.
    pub(crate) fn beginning(&self) -> &[u8] {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => b"",
        }
    }

    /// Whether it names a variable.
    pub(crate) fn names(&self, wanted: impl Fn(Variable) -> bool) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Variable { variable, .. } if wanted(*variable)))
    }

    /// Reads a text. `%{` without `}` stands for itself.
    pub(crate) fn parse(text: &[u8], names: &mut TxNames) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = memchr::memmem::find(rest, b"%{") {
            let Some(length) = memchr::memchr(b'}', &rest[open..]) else { break };
            if open > 0 {
                parts.push(Part::Text(rest[..open].into()));
            }
            let name = String::from_utf8_lossy(&rest[open + 2..open + length]).into_owned();
            parts.push(reference(&name, names)?);
            rest = &rest[open + length + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Template { parts })
    }

    /// The text when no macro is in it.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The slot when the template is exactly one member of `TX`.
    pub(crate) fn single_tx(&self) -> Option<TxSlot> {
        match self.parts.as_slice() {
            [Part::Tx(slot)] => Some(*slot),
            _ => None,
        }
    }
}

fn reference(name: &str, names: &mut TxNames) -> Result<Part, TemplateError> {
    let (variable, member) = match name.find(['.', ':']) {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    };
    if member.is_some_and(|member| member.starts_with('/')) {
        // A regular expression as a macro's member.
        return Err(TemplateError::Unsupported(name.to_string()));
    }
    match Variable::from_name(variable) {
        Some(Variable::Rule)
            if !matches!(
                member.map(str::to_ascii_lowercase).as_deref(),
                Some("id" | "msg" | "severity" | "ver" | "phase")
            ) =>
        {
            Err(TemplateError::Unsupported(name.to_string()))
        }
        Some(Variable::Tx) => match member {
            Some(member) => Ok(Part::Tx(names.slot(member.as_bytes()))),
            None => Err(TemplateError::Unknown(name.to_string())),
        },
        Some(variable) => Ok(Part::Variable {
            variable,
            member: member.map(|member| member.to_ascii_lowercase().into_bytes().into()),
        }),
        None if is_unsupported_variable(variable) => {
            Err(TemplateError::Unsupported(name.to_string()))
        }
        None => Err(TemplateError::Unknown(name.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_texts_and_macros() {
        let mut names = TxNames::default();
        let template =
            Template::parse(b"a %{tx.B}|%{REQUEST_HEADERS.User-Agent}", &mut names).unwrap();
        assert_eq!(template.parts.len(), 4);
        assert_eq!(template.parts[1], Part::Tx(names.slot(b"b")));
        assert_eq!(
            template.parts[3],
            Part::Variable {
                variable: Variable::RequestHeaders,
                member: Some(b"user-agent".as_slice().into())
            }
        );
        assert_eq!(Template::parse(b"50%{", &mut names).unwrap().literal(), Some(&b"50%{"[..]));
        assert_eq!(Template::parse(b"", &mut names).unwrap().literal(), Some(&b""[..]));
    }

    #[test]
    fn unknown_variables_are_errors() {
        let mut names = TxNames::default();
        assert_eq!(
            Template::parse(b"%{nonsense}", &mut names),
            Err(TemplateError::Unknown("nonsense".into()))
        );
        assert_eq!(
            Template::parse(b"%{geo.x}", &mut names),
            Err(TemplateError::Unsupported("geo.x".into()))
        );
    }
}

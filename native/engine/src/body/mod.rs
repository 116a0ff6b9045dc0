//! Request bodies to variables.
//!
//! Source: `seclang.md` section 5.

pub(crate) mod json;
pub(crate) mod multipart;
pub(crate) mod urlencoded;
pub(crate) mod xml;
mod xml_dtd;

//! Sallyport engine.
pub mod operator;
pub mod transformation;

//! Sallyport pattern.

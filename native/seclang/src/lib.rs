//! Sallyport seclang.

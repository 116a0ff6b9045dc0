//! Sallyport libinjection.

//! Sallyport buckets.

//! Node-API glue: convert, call, convert; no logic.

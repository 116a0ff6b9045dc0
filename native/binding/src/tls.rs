//! How connections to servers speak TLS: one context for all targets of a thread that trust the same authorities, so that
//! their sessions are resumed by whichever pool comes next.

use std::cell::RefCell;
use std::collections::HashMap;

use sallyport_tls::{Authorities, ClientContext, ClientOptions};

thread_local! {
    /// By the text of the authorities; `None` = servers are not verified. What no target uses goes when a new one comes.
    static CONTEXTS: RefCell<HashMap<Option<String>, ClientContext>> = RefCell::default();
}

/// `None`: nobody can be verified by such a name, or against such a text.
pub fn client_context(authorities: Option<String>, name: &str) -> Option<ClientContext> {
    if !ClientContext::takes_name(name) {
        return None;
    }
    CONTEXTS.with_borrow_mut(|contexts| {
        if let Some(context) = contexts.get(&authorities) {
            return Some(context.clone());
        }
        contexts.retain(|_, context| context.is_shared());
        let trusted = authorities.as_deref().map(Authorities::from_pem).transpose().ok()?;
        let options = ClientOptions { authorities: trusted, alpn: vec![b"http/1.1".to_vec()] };
        let context = ClientContext::new(options).ok()?;
        contexts.insert(authorities, context.clone());
        Some(context)
    })
}

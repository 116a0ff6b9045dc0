//! How connections speak TLS. To servers: one context for all targets of a thread that trust the same authorities, so that
//! their sessions are resumed by whichever pool comes next. To clients: contexts that are prepared first and used later.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;

use napi::{Error, Result};
use napi_derive::napi;
use sallyport_tls::{
    Authorities, ClientCertificates, ClientContext, ClientOptions, Facts, ServerContext,
    ServerHost, Strategy, TicketSecret, Version, CIPHER_NAMES,
};
use serde::{Deserialize, Serialize};

thread_local! {
    /// By the text of the authorities (`None` = servers are not verified) and whether HTTP/2 is spoken. What no target uses goes when a new one comes.
    static CONTEXTS: RefCell<HashMap<(Option<String>, bool), ClientContext>> = RefCell::default();
    /// Prepared and not used yet, by number.
    static PREPARED: RefCell<(u32, HashMap<u32, ServerContext>)> = RefCell::default();
}

/// Of the process; the same in all processes of a gateway.
static TICKETS: OnceLock<TicketSecret> = OnceLock::new();

fn tickets() -> Result<&'static TicketSecret> {
    if TICKETS.get().is_none() {
        let secret = TicketSecret::random().map_err(|fault| Error::from_reason(fault.detail))?;
        // Whoever was first has said it.
        let _ = TICKETS.set(secret);
    }
    TICKETS.get().ok_or_else(|| Error::from_reason("no secret for tickets"))
}

/// The secret behind the tickets of this process's listeners as it is now, for a new process of the gateway: 32 bytes, and 8 of
/// the number of its step. Made when there is none.
#[napi(catch_unwind)]
pub fn ticket_secret() -> Result<Vec<u8>> {
    let (secret, epoch) = tickets()?.now();
    Ok([&secret[..], &epoch.to_be_bytes()].concat())
}

/// Takes over the secret of another process; only the first one counts, and only before `prepare_tls`.
#[napi(catch_unwind)]
pub fn use_ticket_secret(secret: &[u8]) -> Result<()> {
    let (secret, epoch) = secret
        .split_first_chunk::<32>()
        .and_then(|(secret, rest)| Some((*secret, <[u8; 8]>::try_from(rest).ok()?)))
        .ok_or_else(|| Error::from_reason("a secret and its step have 40 bytes"))?;
    let _ = TICKETS.set(TicketSecret::of(secret, u64::from_be_bytes(epoch)));
    Ok(())
}

/// `is_http2`: what is asked for by ALPN. `None`: nobody can be verified by such a name, or against such a text.
pub fn client_context(
    authorities: Option<String>,
    name: &str,
    is_http2: bool,
) -> Option<ClientContext> {
    if !ClientContext::takes_name(name) {
        return None;
    }
    CONTEXTS.with_borrow_mut(|contexts| {
        let key = (authorities, is_http2);
        if let Some(context) = contexts.get(&key) {
            return Some(context.clone());
        }
        contexts.retain(|_, context| context.is_shared());
        let trusted = key.0.as_deref().map(Authorities::from_pem).transpose().ok()?;
        let protocol: &[u8] = if is_http2 { b"h2" } else { b"http/1.1" };
        let options = ClientOptions { authorities: trusted, alpn: vec![protocol.to_vec()] };
        let context = ClientContext::new(options).ok()?;
        contexts.insert(key, context.clone());
        Some(context)
    })
}

/// A listener's rules, as src/native/front.ts has them.
#[derive(Deserialize)]
struct ListenTls {
    alpn: Vec<String>,
    hosts: Vec<Host>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    names: Vec<String>,
    chain: String,
    key: String,
    min_version: String,
    max_version: String,
    ciphers: Vec<String>,
    clients: Option<Clients>,
}

#[derive(Deserialize)]
struct Clients {
    strategy: String,
    authorities: Option<String>,
}

fn version(text: &str) -> Result<Version> {
    match text {
        "1.2" => Ok(Version::Tls12),
        "1.3" => Ok(Version::Tls13),
        other => Err(Error::from_reason(format!("TLS {other} is not spoken"))),
    }
}

impl Host {
    fn read(self) -> Result<ServerHost> {
        let clients = self.clients.map(Clients::read).transpose()?;
        Ok(ServerHost {
            names: self.names,
            chain: self.chain,
            key: self.key,
            min: version(&self.min_version)?,
            max: version(&self.max_version)?,
            ciphers: self.ciphers,
            clients,
        })
    }
}

impl Clients {
    fn read(self) -> Result<ClientCertificates> {
        let strategy = match self.strategy.as_str() {
            "require-and-verify" => Strategy::RequireAndVerify,
            "require-any" => Strategy::RequireAny,
            "request" => Strategy::Request,
            other => return Err(Error::from_reason(format!("{other} is no strategy"))),
        };
        let authorities = self.authorities.as_deref().map(Authorities::from_pem).transpose();
        let authorities = authorities.map_err(|fault| Error::from_reason(fault.detail))?;
        Ok(ClientCertificates { strategy, authorities })
    }
}

/// Builds what a listener shows its clients and asks of them. Returns its number, for `front_use_tls` or `drop_tls`.
#[napi(catch_unwind)]
pub fn prepare_tls(rules: String) -> Result<u32> {
    let rules: ListenTls =
        serde_json::from_str(&rules).map_err(|error| Error::from_reason(error.to_string()))?;
    let hosts = rules.hosts.into_iter().map(Host::read).collect::<Result<Vec<_>>>()?;
    let alpn: Vec<Vec<u8>> = rules.alpn.into_iter().map(String::into_bytes).collect();
    let context = ServerContext::with_tickets(hosts, &alpn, tickets()?)
        .map_err(|fault| Error::from_reason(fault.detail))?;
    Ok(PREPARED.with_borrow_mut(|(last, prepared)| {
        *last += 1;
        prepared.insert(*last, context.numbered(*last));
        *last
    }))
}

/// Forgets what was prepared and is not wanted.
#[napi(catch_unwind)]
pub fn drop_tls(number: u32) {
    take_prepared(number);
}

pub fn take_prepared(number: u32) -> Option<ServerContext> {
    PREPARED.with_borrow_mut(|(_, prepared)| prepared.remove(&number))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FactsText<'a> {
    context: u32,
    host: usize,
    /// Empty when no host has it.
    server_name: &'a str,
    version: &'a str,
    cipher_suite: &'a str,
    alpn: std::borrow::Cow<'a, str>,
    ja4: &'a str,
    is_resumed: bool,
    /// DER of the client's certificate, in hexadecimal digits.
    client_certificate: String,
}

/// JSON, as src/native/front.ts has it.
pub fn facts_text(facts: &Facts) -> String {
    let text = FactsText {
        context: facts.context,
        host: facts.host,
        server_name: if facts.is_name_known { &facts.server_name } else { "" },
        version: if facts.version == 0x0304 { "1.3" } else { "1.2" },
        cipher_suite: CIPHER_NAMES
            .iter()
            .find(|(number, _)| *number == facts.cipher)
            .map_or("", |(_, name)| name),
        alpn: String::from_utf8_lossy(&facts.alpn),
        ja4: &facts.ja4,
        is_resumed: facts.is_resumed,
        client_certificate: facts.peer_certificates.first().map(|der| hex(der)).unwrap_or_default(),
    };
    serde_json::to_string(&text).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

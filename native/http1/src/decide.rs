//! Judges a head as a whole: framing first, before anything else can happen (T-28), then the rest in a fixed order.
//! Source: H-07 … H-23, H-36, H-50 … H-61, H-90; src/listener/read-head.ts, which decides alike.

use crate::bytes::{is_token, trim};
use crate::connection::remove_named;
use crate::facts::{Framing, RequestHead, RequestRules, Upgrade, Version};
use crate::fields::{end_line, Fields};
use crate::refusal::{
    Refusal, BAD_CODING, BAD_CONNECTION, BAD_EXPECTATION, BAD_HOST, BAD_LENGTH, CONNECTION_ABUSE,
    CONNECT_REFUSED, LONG_BODY, NO_HOST, OLD_CODING, REPEATED, TRACE_REFUSED, TWO_LENGTHS,
    UNKNOWN_CODING, UPGRADE_REFUSED,
};
use crate::target::is_host;
use crate::web_socket::check_handshake;

/// Larger lengths are not exact as numbers of JavaScript.
const MAX_LENGTH: u64 = (1 << 53) - 1;

pub(crate) fn decide(
    mut fields: Fields<'_, '_>,
    rules: &RequestRules,
) -> Result<RequestHead, Refusal> {
    let framing = decide_framing(&fields)?;
    if fields.repeats {
        return Err(REPEATED);
    }
    match fields.method {
        b"CONNECT" => return Err(CONNECT_REFUSED),
        b"TRACE" | b"TRACK" => return Err(TRACE_REFUSED),
        _ => {}
    }
    fields.target?;
    let is_old = fields.version == Version::Http10;
    match fields.host {
        None if !is_old => return Err(NO_HOST),
        None => {
            if let Some(authority) = fields.authority {
                fields.text.extend_from_slice(b"host");
                end_line(fields.text, authority);
            }
        }
        Some(host) if !is_host(host) => return Err(BAD_HOST),
        Some(_) => {}
    }
    let has_host = fields.host.is_some() || fields.authority.is_some();

    let upgrade = decide_connection(&mut fields, rules, framing)?;
    let expects_continue = match fields.expect {
        // HTTP/1.0 knows no expectations (H-61).
        Some(_) if is_old => false,
        Some(expect) if expect.eq_ignore_ascii_case(b"100-continue") => true,
        Some(_) => return Err(BAD_EXPECTATION),
        None => false,
    };
    if let Framing::Length(length) = framing {
        if length > MAX_LENGTH {
            return Err(BAD_LENGTH);
        }
        if rules.body_bytes > 0 && length > rules.body_bytes {
            return Err(LONG_BODY);
        }
    }
    let connection = &fields.connection;
    // A proxy of HTTP/1.0 may have passed on what it does not know (H-53; RFC 9112 §9.3, §C.2.2).
    let may_ask = connection.keep_alive && !fields.is_proxied;
    Ok(RequestHead {
        consumed: 0,
        version: fields.version,
        is_head: fields.method == b"HEAD",
        framing,
        keep_alive: !connection.close && (!is_old || may_ask),
        expects_continue,
        upgrade,
        accepts_trailers: fields.accepts_trailers && !is_old,
        proxy_fields: fields.proxy_fields,
        has_host,
    })
}

/// H-20 … H-23: one length, or exactly `chunked`, or neither.
fn decide_framing(fields: &Fields<'_, '_>) -> Result<Framing, Refusal> {
    if let Some(coding) = fields.transfer_encoding {
        if fields.content_length.is_some() {
            return Err(TWO_LENGTHS);
        }
        if fields.version == Version::Http10 {
            return Err(OLD_CODING);
        }
        if fields.repeats_coding {
            return Err(BAD_CODING);
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(if is_unknown_then_chunked(coding) { UNKNOWN_CODING } else { BAD_CODING });
        }
        return Ok(Framing::Chunked);
    }
    let Some(length) = fields.content_length else { return Ok(Framing::None) };
    let is_plain = (1..=16).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
    if fields.repeats_length || !is_plain {
        return Err(BAD_LENGTH);
    }
    Ok(Framing::Length(
        length.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')),
    ))
}

/// Whether codings are listed with `chunked` last and only there: 501 rather than 400.
fn is_unknown_then_chunked(coding: &[u8]) -> bool {
    let mut members = coding.split(|byte| *byte == b',').map(trim).rev();
    let last = members.next().unwrap_or(b"");
    let mut others = 0;
    last.eq_ignore_ascii_case(b"chunked")
        && members.all(|member| {
            others += 1;
            is_token(member) && !member.eq_ignore_ascii_case(b"chunked")
        })
        && others > 0
}

/// Obeys `Connection` (H-50, H-52) and `Upgrade` (H-60, H-90).
fn decide_connection(
    fields: &mut Fields<'_, '_>,
    rules: &RequestRules,
    framing: Framing,
) -> Result<Upgrade, Refusal> {
    let connection = &fields.connection;
    if connection.is_invalid {
        return Err(BAD_CONNECTION);
    }
    if connection.is_abuse {
        return Err(CONNECTION_ABUSE);
    }
    if !connection.named().is_empty() {
        let named = connection.named();
        remove_named(fields.text, fields.section, named, |_| false, fields.connection_lines);
    }
    let Some(protocol) = fields.upgrade.filter(|_| connection.upgrade) else {
        return Ok(Upgrade::None);
    };
    // HTTP/1.0 cannot ask for it, and an offer to go on in HTTP/2 is not taken up and never passed on (H-60).
    let is_one = fields.upgrade_lines == 1;
    if fields.version == Version::Http10 || (is_one && is_http2(protocol)) {
        return Ok(Upgrade::None);
    }
    let upgrade = if is_one && protocol.eq_ignore_ascii_case(b"websocket") {
        check_handshake(fields.method, framing, &fields.text[fields.section..])?;
        Upgrade::WebSocket
    } else if rules.other_upgrades
        && is_one
        && fields.method == b"GET"
        && framing == Framing::None
        && is_protocol(protocol)
    {
        Upgrade::Other
    } else {
        return Err(UPGRADE_REFUSED);
    };
    // Policies see them, as they see the rest of the handshake.
    let lines = &mut *fields.connection_lines;
    remove_named(lines, fields.lines_start, b"connection,upgrade,", |_| false, &mut Vec::new());
    fields.text.extend_from_slice(b"connection: upgrade\r\nupgrade");
    let protocol = if upgrade == Upgrade::WebSocket { b"websocket" } else { protocol };
    end_line(fields.text, protocol);
    Ok(upgrade)
}

fn is_http2(protocol: &[u8]) -> bool {
    [&b"h2c"[..], b"HTTP/2", b"HTTP/2.0"].iter().any(|name| protocol.eq_ignore_ascii_case(name))
}

/// One protocol: a name, or name and version (RFC 9110 §7.8). HTTP itself is never gone on with.
fn is_protocol(protocol: &[u8]) -> bool {
    let mut parts = protocol.splitn(2, |byte| *byte == b'/');
    let name = parts.next().unwrap_or(b"");
    is_token(name) && parts.next().is_none_or(is_token) && !name.eq_ignore_ascii_case(b"http")
}

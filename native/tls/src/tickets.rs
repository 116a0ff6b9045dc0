//! Tickets by which clients resume their sessions, with keys that several processes derive alike and that live in memory only.
//!
//! One secret moves on every six hours by a one-way step, in each process by itself; the one before is kept for so long, older
//! ones are forgotten, and with them what tickets of their time hold. The key of a ticket also depends on the rules it was
//! given under: what new rules ask of clients cannot be got around with an old ticket.
//!
//! Source: RFC 5077 §4, §5.5; RFC 8446 §4.6.1.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM, NONCE_LEN};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};
use rustls::server::ProducesTickets;

use crate::fault::Fault;

/// How long a secret makes tickets; for as long again it still reads them.
const STEP_S: u64 = 6 * 3600;
/// Steps taken at once, after a jump of the clock; beyond it nothing that was is read.
const MOST_STEPS: u64 = 10_000;
const EPOCH_BYTES: usize = 8;

type Secret = [u8; 32];

#[derive(Clone)]
struct Ratchet {
    epoch: u64,
    secret: Secret,
    previous: Option<Secret>,
}

impl Ratchet {
    /// Moves on to an epoch; a clock that goes back changes nothing.
    fn advance(&mut self, epoch: u64) {
        let steps = epoch.saturating_sub(self.epoch);
        for _ in 0..steps.min(MOST_STEPS) {
            let next = derive(&self.secret, b"next");
            self.previous = Some(std::mem::replace(&mut self.secret, next));
        }
        self.epoch += steps;
    }
}

fn derive(secret: &Secret, label: &[u8]) -> Secret {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), label);
    let mut derived = Secret::default();
    derived.copy_from_slice(tag.as_ref());
    derived
}

/// The secret behind the tickets of all listeners. Clones share it.
#[derive(Clone)]
pub struct TicketSecret {
    ratchet: Arc<Mutex<Ratchet>>,
}

impl std::fmt::Debug for TicketSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TicketSecret")
    }
}

impl TicketSecret {
    /// A new one; fails when the system has no random bytes.
    pub fn random() -> Result<Self, Fault> {
        let mut secret = Secret::default();
        let filled = SystemRandom::new().fill(&mut secret);
        filled.map_err(|_| Fault::failed("the system has no random bytes"))?;
        Ok(TicketSecret::of(secret, epoch_at(SystemTime::now())))
    }

    /// The one that another process had in that epoch ([`TicketSecret::now`]).
    pub fn of(secret: [u8; 32], epoch: u64) -> Self {
        TicketSecret { ratchet: Arc::new(Mutex::new(Ratchet { epoch, secret, previous: None })) }
    }

    /// As it is now, for another process.
    pub fn now(&self) -> ([u8; 32], u64) {
        let ratchet = self.at(epoch_at(SystemTime::now()));
        (ratchet.secret, ratchet.epoch)
    }

    fn at(&self, epoch: u64) -> Ratchet {
        let mut ratchet = self.ratchet.lock().unwrap_or_else(PoisonError::into_inner);
        ratchet.advance(epoch);
        ratchet.clone()
    }

    /// For sessions under certain rules, told apart by `label`.
    pub(crate) fn ticketer(&self, label: &[u8]) -> Arc<Ticketer> {
        let label = digest::digest(&digest::SHA256, label).as_ref().to_vec();
        Arc::new(Ticketer { secret: self.clone(), label, random: SystemRandom::new() })
    }
}

fn epoch_at(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / STEP_S)
}

pub(crate) struct Ticketer {
    secret: TicketSecret,
    label: Vec<u8>,
    random: SystemRandom,
}

impl std::fmt::Debug for Ticketer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ticketer")
    }
}

impl Ticketer {
    fn key(&self, secret: &Secret) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derive(secret, &self.label)).ok()?))
    }

    fn encrypt_at(&self, plain: &[u8], epoch: u64) -> Option<Vec<u8>> {
        let ratchet = self.secret.at(epoch);
        let mut nonce = [0u8; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let epoch = ratchet.epoch.to_be_bytes();
        let mut sealed = plain.to_vec();
        let key = self.key(&ratchet.secret)?;
        let nonce_once = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_once, Aad::from(epoch), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(EPOCH_BYTES + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&epoch);
        ticket.extend_from_slice(&nonce);
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn decrypt_at(&self, ticket: &[u8], epoch: u64) -> Option<Vec<u8>> {
        let (sealed_in, rest) = ticket.split_first_chunk::<EPOCH_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let ratchet = self.secret.at(epoch);
        let secret = match ratchet.epoch.checked_sub(u64::from_be_bytes(*sealed_in))? {
            0 => ratchet.secret,
            1 => ratchet.previous?,
            _ => return None,
        };
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length =
            self.key(&secret)?.open_in_place(nonce, Aad::from(*sealed_in), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        2 * STEP_S as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, epoch_at(SystemTime::now()))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(cipher, epoch_at(SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> TicketSecret {
        TicketSecret::of([7; 32], 100)
    }

    #[test]
    fn processes_with_one_secret_read_each_others_tickets_for_two_steps() {
        let (ours, theirs) = (secret().ticketer(b"rules"), secret().ticketer(b"rules"));
        let ticket = ours.encrypt_at(b"session", 100).unwrap_or_default();
        assert_eq!(theirs.decrypt_at(&ticket, 100).as_deref(), Some(&b"session"[..]));
        assert_eq!(theirs.decrypt_at(&ticket, 101).as_deref(), Some(&b"session"[..]));
        assert_eq!(theirs.decrypt_at(&ticket, 102), None);
        // A clock that goes back, and one that jumps far ahead.
        assert_eq!(theirs.decrypt_at(&ticket, 100), None);
        let late = theirs.encrypt_at(b"late", u64::MAX / 2).unwrap_or_default();
        assert_eq!(theirs.decrypt_at(&late, 5).as_deref(), Some(&b"late"[..]));
    }

    #[test]
    fn a_process_that_comes_later_gets_no_secret_of_the_past() {
        let primary = secret();
        let old = primary.ticketer(b"rules").encrypt_at(b"session", 100).unwrap_or_default();
        let Ratchet { secret, epoch, .. } = primary.at(101);
        let late = TicketSecret::of(secret, epoch).ticketer(b"rules");
        assert_eq!(late.decrypt_at(&old, 101), None);
        let new = late.encrypt_at(b"session", 101).unwrap_or_default();
        assert_eq!(
            primary.ticketer(b"rules").decrypt_at(&new, 101).as_deref(),
            Some(&b"session"[..])
        );
    }

    #[test]
    fn other_rules_other_secrets_and_changed_bytes_give_nothing() {
        let ticket = secret().ticketer(b"rules").encrypt_at(b"session", 100).unwrap_or_default();
        assert_eq!(secret().ticketer(b"other").decrypt_at(&ticket, 100), None);
        let foreign = TicketSecret::of([8; 32], 100).ticketer(b"rules");
        assert_eq!(foreign.decrypt_at(&ticket, 100), None);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(secret().ticketer(b"rules").decrypt_at(&changed, 100), None, "{at}");
            assert_eq!(secret().ticketer(b"rules").decrypt_at(&ticket[..at], 100), None);
        }
    }
}

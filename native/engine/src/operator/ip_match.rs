//! `@ipMatch`, `@ipMatchFromFile`: addresses and CIDR nets.
//!
//! Source: `seclang.md` section 7.3.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{load_files, OperatorError};

/// A net: address bits under a mask.
#[derive(Debug, Clone, Copy)]
struct Net<T> {
    address: T,
    mask: T,
}

#[derive(Debug, Default)]
pub(super) struct IpMatch {
    version_four: Vec<Net<u32>>,
    version_six: Vec<Net<u128>>,
}

impl IpMatch {
    /// A comma-separated list.
    pub(super) fn from_argument(argument: &[u8]) -> Result<Self, OperatorError> {
        let mut nets = IpMatch::default();
        for item in argument.split(|&byte| byte == b',') {
            nets.add(item.trim_ascii())?;
        }
        Ok(nets)
    }

    /// One address or net per line.
    pub(super) fn from_files(
        argument: &[u8],
        load: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Self, OperatorError> {
        let mut nets = IpMatch::default();
        load_files(argument, load, |line| {
            let comment = line.iter().position(|&byte| byte == b'#').unwrap_or(line.len());
            match line[..comment].trim_ascii() {
                [] => Ok(()),
                item => nets.add(item),
            }
        })?;
        Ok(nets)
    }

    fn add(&mut self, item: &[u8]) -> Result<(), OperatorError> {
        let wrong = || {
            let text = String::from_utf8_lossy(item);
            OperatorError::Argument(format!("{text:?} is neither an IP address nor a net"))
        };
        let text = std::str::from_utf8(item).map_err(|_| wrong())?;
        let (address, width) = match text.split_once('/') {
            Some((address, width)) => (address, Some(width.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match address.parse::<IpAddr>().map_err(|_| wrong())? {
            IpAddr::V4(address) => {
                let host_bits = 32u32.checked_sub(width.unwrap_or(32)).ok_or_else(wrong)?;
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                self.version_four.push(Net { address: address.to_bits() & mask, mask });
            }
            IpAddr::V6(address) => {
                let host_bits = 128u32.checked_sub(width.unwrap_or(128)).ok_or_else(wrong)?;
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                self.version_six.push(Net { address: address.to_bits() & mask, mask });
            }
        }
        Ok(())
    }

    /// A value that is no address matches nothing.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(value) else { return false };
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            let bits = address.to_bits();
            return self.version_four.iter().any(|net| bits & net.mask == net.address);
        }
        match text.parse::<Ipv6Addr>() {
            Ok(address) => {
                let bits = address.to_bits();
                self.version_six.iter().any(|net| bits & net.mask == net.address)
            }
            Err(_) => false,
        }
    }
}

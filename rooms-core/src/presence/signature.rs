//! Node messages that are signed.

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The shortest key, in bytes: as long as the hash is (RFC 2104 section 3).
const MIN_KEY: usize = 32;

/// What keeps a signature from meaning anything elsewhere, where the same secret is used for something else.
const CONTEXT: &[u8] = b"rooms node message v1\0";

/// A signed message is the message with one more field at its end, so that whoever has no key can read it too.
const OPEN: &[u8] = br#","mac":""#;
const CLOSE: &[u8] = br#""}"#;
const DIGITS: usize = 64;

/// A key is too short for [`RoomManagerBuilder::node_key`](crate::RoomManagerBuilder::node_key).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node key has at least {MIN_KEY} bytes, and this one has {0}")]
pub struct NodeKeyError(usize);

/// The keys that the nodes of one fleet share: the first one signs, and what any of them signed is taken. With none,
/// nothing is signed, and everything is taken.
#[derive(Clone, Default)]
pub(crate) struct NodeKeys(Vec<Hmac<Sha256>>);

/// A message without a signature, or with a wrong one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not signed with a key of this fleet")]
pub(crate) struct NotSigned;

impl NodeKeys {
    pub(crate) fn add(&mut self, secret: &[u8]) -> Result<(), NodeKeyError> {
        let mac = Hmac::new_from_slice(secret).ok().filter(|_| secret.len() >= MIN_KEY);
        let mut mac: Hmac<Sha256> = mac.ok_or(NodeKeyError(secret.len()))?;
        mac.update(CONTEXT);
        self.0.push(mac);
        Ok(())
    }

    /// Signs a message, which is a JSON object.
    pub(crate) fn sign(&self, message: Vec<u8>) -> Bytes {
        let Some(mac) = self.0.first() else { return message.into() };
        let signature = mac.clone().chain_update(&message).finalize().into_bytes();
        let mut signed = message;
        signed.pop();
        signed.extend_from_slice(OPEN);
        for byte in signature {
            signed
                .extend([byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
        }
        signed.extend_from_slice(CLOSE);
        signed.into()
    }

    /// Whether a message may be taken.
    pub(crate) fn check(&self, message: &[u8]) -> Result<(), NotSigned> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (unsigned, signature) = split(message).ok_or(NotSigned)?;
        let signed = |mac: &Hmac<Sha256>| {
            let mac = mac.clone().chain_update(unsigned).chain_update(b"}");
            mac.verify_slice(&signature).is_ok()
        };
        if self.0.iter().any(signed) { Ok(()) } else { Err(NotSigned) }
    }
}

/// The message without its last brace, and the signature.
fn split(message: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let rest = message.strip_suffix(CLOSE)?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = digits.iter().map(digit).collect();
    let signature = digits?.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    Some((rest.strip_suffix(OPEN)?, signature))
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeKeys").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[u8] = b"an old secret of at least 32 bytes";
    const NEW: &[u8] = b"a new secret of 32 bytes or more..";

    fn keys(secrets: &[&[u8]]) -> NodeKeys {
        let mut keys = NodeKeys::default();
        secrets.iter().for_each(|secret| keys.add(secret).unwrap());
        keys
    }

    #[test]
    fn a_signature_is_what_every_other_implementation_makes() {
        // Reckoned apart from this code, with Python's `hmac`.
        let signed = keys(&[OLD]).sign(b"{\"v\":1}".to_vec());
        let text = r#"{"v":1,"mac":"1d253e03a254abbf4e310a00ec37b94caefc454e27e4f01cf25b9ebf82119645"}"#;
        assert_eq!(signed, text);
    }

    #[test]
    fn what_is_signed_is_taken_and_nothing_else_is() {
        let signed = keys(&[OLD]).sign(b"{\"v\":1}".to_vec());
        assert_eq!(keys(&[OLD]).check(&signed), Ok(()));
        assert_eq!(keys(&[NEW]).check(&signed), Err(NotSigned));
        assert_eq!(keys(&[OLD]).check(b"{\"v\":1}"), Err(NotSigned));
        for at in 0..signed.len() {
            let mut changed = signed.to_vec();
            changed[at] ^= 1;
            assert_eq!(keys(&[OLD]).check(&changed), Err(NotSigned), "byte {at}");
            assert_eq!(keys(&[OLD]).check(&signed[at + 1..]), Err(NotSigned));
            assert_eq!(keys(&[OLD]).check(&signed[..at]), Err(NotSigned));
        }
        assert_eq!(NodeKeys::default().check(b"anything"), Ok(()));
    }

    #[test]
    fn a_key_is_exchanged_while_both_are_taken() {
        let both = keys(&[NEW, OLD]);
        assert_eq!(both.check(&keys(&[OLD]).sign(b"{}".to_vec())), Ok(()));
        assert_eq!(keys(&[NEW]).check(&both.sign(b"{}".to_vec())), Ok(()), "the first one signs");
    }

    #[test]
    fn a_short_key_is_none() {
        assert_eq!(NodeKeys::default().add(&[1; MIN_KEY - 1]), Err(NodeKeyError(31)));
        assert!(NodeKeys::default().add(&[1; MIN_KEY]).is_ok());
    }
}

//! The stock hub's token: `nonce/hex(hmac_sha512(secret, nonce))`. Made here, checked in constant time against the
//! secret and those before it. No refusal repeats what was sent; each says what the admin has to do.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use crate::event::Secret;
use crate::event::hex::{hex, unhex};

/// Longer ones were not made by a hub.
const MAX_HEADER_BYTES: usize = 4096;

/// The secrets of a hub.
#[derive(Debug, Clone)]
pub struct Tokens {
    secrets: Vec<Secret>,
}

/// Which token a request came with: the same for the same token, and nothing can be told from it. Each token that
/// `pintle token` prints has one of its own, and without the secret nobody can make another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 32]);

impl TokenId {
    pub(super) fn of(given: &[u8]) -> Self {
        Self(Sha256::digest(given).into())
    }
}

/// No secret is set: every token could be forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hub.secret is empty: without a secret every token could be forged")]
pub struct NoSecret;

/// Why a request was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// No `Authorization` header.
    #[error(
        "No authorization token. In Looker under Admin > Actions, edit this hub and paste the token that `pintle token` prints as its authorization token."
    )]
    Missing,
    /// Another scheme.
    #[error(
        "The Authorization header is not of the form Token token=\"…\". In Looker under Admin > Actions, edit this hub and paste the whole token that `pintle token` prints, without quotes or blanks."
    )]
    Malformed,
    /// No `nonce/digest`.
    #[error(
        "The authorization token is none that a hub makes, or only a part of one. In Looker under Admin > Actions, edit this hub and paste the whole token that `pintle token` prints, without quotes or blanks."
    )]
    Partial,
    /// Made with another secret.
    #[error(
        "The authorization token was not made with this hub's secret. Paste the token that `pintle token` prints into Looker under Admin > Actions, or put the secret it was made with into hub.previous_secrets."
    )]
    Wrong,
}

impl Tokens {
    /// The secret that makes tokens, and those whose tokens are still good. Empty ones are left out.
    pub fn new(secret: &Secret, previous: &[Secret]) -> Result<Self, NoSecret> {
        if secret.is_empty() {
            return Err(NoSecret);
        }
        let secrets = std::iter::once(secret)
            .chain(previous.iter().filter(|secret| !secret.is_empty()))
            .cloned()
            .collect();
        Ok(Self { secrets })
    }

    /// A token for Looker's admin page from 32 random bytes.
    pub fn mint(&self, random: [u8; 32]) -> String {
        let nonce = hex(&random);
        match self.secrets.first() {
            Some(secret) => format!("{nonce}/{}", hex(&digest(secret, nonce.as_bytes()))),
            None => nonce,
        }
    }

    /// Whether the `Authorization` header holds a token of one of the secrets, and which one.
    pub fn check(&self, header: Option<&[u8]>) -> Result<TokenId, Rejected> {
        let header = header.ok_or(Rejected::Missing)?;
        if header.iter().all(u8::is_ascii_whitespace) {
            return Err(Rejected::Missing);
        }
        let token = token_of(header).ok_or(Rejected::Malformed)?;
        let (nonce, given) = token.rsplit_once('/').ok_or(Rejected::Partial)?;
        let given = unhex::<64>(given).ok_or(Rejected::Partial)?;
        if nonce.is_empty() {
            return Err(Rejected::Partial);
        }
        // Every secret is tried, so that the time does not tell which one fitted.
        let mut fits = Choice::from(0);
        for secret in &self.secrets {
            fits |= digest(secret, nonce.as_bytes()).ct_eq(&given);
        }
        if bool::from(fits) {
            Ok(TokenId::of(&given))
        } else {
            Err(Rejected::Wrong)
        }
    }
}

/// The text between the quotes of `Token token="…"`; the words in any case, the quotes may be missing.
fn token_of(header: &[u8]) -> Option<&str> {
    if header.len() > MAX_HEADER_BYTES {
        return None;
    }
    let text = std::str::from_utf8(header).ok()?.trim();
    let (scheme, rest) = text.split_once(|letter: char| letter.is_ascii_whitespace())?;
    if !scheme.eq_ignore_ascii_case("token") {
        return None;
    }
    let (key, value) = rest.trim_start().split_once('=')?;
    if !key.trim_end().eq_ignore_ascii_case("token") {
        return None;
    }
    let value = value.trim();
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

fn digest(secret: &Secret, nonce: &[u8]) -> [u8; 64] {
    // HMAC takes keys of any length: the error case does not exist, and an all-zero digest would fit nothing.
    match Hmac::<Sha512>::new_from_slice(secret.expose().as_bytes()) {
        Ok(mut mac) => {
            mac.update(nonce);
            mac.finalize().into_bytes().into()
        }
        Err(_) => [0; 64],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(
            &Secret::new("new secret"),
            &[Secret::new("old secret"), Secret::default()],
        )
        .unwrap()
    }

    #[test]
    fn a_token_is_the_stock_hubs() {
        // printf abc | openssl dgst -sha512 -hmac secret
        let tokens = Tokens::new(&Secret::new("secret"), &[]).unwrap();
        let known = "18c4d2edb7dc012d4ade387e587ab7c52f50a384529f3e368392a1b0b16183f4\
                     0a62fe814cba2a049d9b0e72b7aac932006a2f6d77fa7b76aede1bd63d888241";
        let header = format!("Token token=\"abc/{known}\"");
        assert!(tokens.check(Some(header.as_bytes())).is_ok());
        let minted = tokens.mint([7; 32]);
        let (nonce, mac) = minted.split_once('/').unwrap();
        assert_eq!((nonce.len(), mac.len()), (64, 128));
    }

    #[test]
    fn what_is_accepted_and_what_is_not() {
        let tokens = tokens();
        let good = tokens.mint([1; 32]);
        let old = Tokens::new(&Secret::new("old secret"), &[]).unwrap().mint([2; 32]);
        let foreign = Tokens::new(&Secret::new("foreign"), &[]).unwrap().mint([2; 32]);
        let unsigned = Tokens {
            secrets: vec![Secret::default()],
        }
        .mint([3; 32]);
        let no_nonce = format!("/{}", hex(&digest(&Secret::new("new secret"), b"")));
        let cases: [(String, Result<(), Rejected>); 17] = [
            (format!("Token token=\"{good}\""), Ok(())),
            (format!("token token=\"{good}\""), Ok(())),
            (format!("TOKEN  Token = \"{good}\" "), Ok(())),
            (format!("Token token={good}"), Ok(())),
            (format!("Token token=\"{old}\""), Ok(())),
            (format!("Token token=\"{foreign}\""), Err(Rejected::Wrong)),
            (format!("Token token=\"{unsigned}\""), Err(Rejected::Wrong)),
            (format!("Token token=\"x{good}\""), Err(Rejected::Wrong)),
            (format!("Token token=\"{good}0\""), Err(Rejected::Partial)),
            (format!("Token token=\"{no_nonce}\""), Err(Rejected::Partial)),
            (format!("Bearer {good}"), Err(Rejected::Malformed)),
            (format!("Token token=\"{good}"), Err(Rejected::Malformed)),
            ("Token token=\"abc/def\"".to_owned(), Err(Rejected::Partial)),
            ("Token token=\"\"".to_owned(), Err(Rejected::Partial)),
            ("Token".to_owned(), Err(Rejected::Malformed)),
            (" ".to_owned(), Err(Rejected::Missing)),
            (
                format!("Token token=\"{}\"", "a".repeat(5000)),
                Err(Rejected::Malformed),
            ),
        ];
        for (header, expected) in cases {
            assert_eq!(tokens.check(Some(header.as_bytes())).map(|_| ()), expected, "{header}");
        }
        assert_eq!(tokens.check(None), Err(Rejected::Missing));
        assert_eq!(tokens.check(Some(b"Token token=\"\xff/\"")), Err(Rejected::Malformed));
        assert!(Tokens::new(&Secret::default(), &[Secret::new("x")]).is_err());
    }

    #[test]
    fn authorization_headers() {
        let tokens = tokens();
        let words = ["Token", "token=", "\"", "/", "Bearer ", "0000000000000000"];
        crate::fuzz::target("token", &words, |bytes, _| {
            // The corpus was made with a secret that these do not have.
            assert!(tokens.check(Some(bytes)).is_err());
        });
    }
}

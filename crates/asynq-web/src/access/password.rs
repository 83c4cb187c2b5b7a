//! Passwords and tokens, and their hashes.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::{TryRngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Longest password in bytes. Longer ones are refused before they are hashed.
pub(crate) const MAX_PASSWORD: usize = 1024;

/// Number of random bytes in a token.
const TOKEN: usize = 32;

/// Returns the hash of a password for the file of [`Users`](super::Users): argon2id with the parameters that OWASP recommends
/// (19 MiB, 2 passes) and a random salt, as a PHC string. It takes some 20 ms.
///
/// # Errors
/// A text that names the fault: the password is empty or has more than 1024 bytes, or the system has no random numbers.
pub fn hash_password(password: &str) -> Result<String, String> {
    if password.is_empty() || password.len() > MAX_PASSWORD {
        return Err(format!("a password has 1 to {MAX_PASSWORD} bytes"));
    }
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| format!("cannot hash the password: {error}"))
}

/// Returns a new random token of 256 bits, in the alphabet of URLs.
///
/// # Errors
/// The system has no random numbers.
pub fn new_token() -> Result<String, String> {
    let mut bytes = [0; TOKEN];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns the hash of a token for the file of [`Users`](super::Users): `sha256:` and the hash in hexadecimal. A token is
/// random, so it needs no slow hash.
#[must_use]
pub fn hash_token(token: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(token.as_bytes())
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Returns whether a text is a hash of a password that can be checked: argon2 within bounds.
pub(crate) fn is_password_hash(hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        let within = |name: &str, most: u32| hash.params.get_decimal(name).is_some_and(|value| value <= most);
        // 1 GiB of memory and 64 passes: no typing error may stop the server.
        hash.algorithm.as_str().starts_with("argon2")
            && hash.hash.is_some()
            && hash.salt.is_some()
            && argon2::Params::try_from(&hash).is_ok()
            && within("m", 1 << 20)
            && within("t", 64)
    })
}

/// Returns a number that grows with the time that the check of a hash takes.
pub(crate) fn cost_of(hash: &str) -> u64 {
    let Ok(hash) = PasswordHash::new(hash) else {
        return 0;
    };
    let value = |name: &str| hash.params.get_decimal(name).map_or(1, u64::from);
    value("m") * value("t")
}

/// Returns whether a text is a hash of a token.
pub(crate) fn is_token_hash(hash: &str) -> bool {
    hash.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// Compares a password with a hash. It blocks for some 20 ms.
pub(crate) fn verify_password(password: &str, hash: &str) -> bool {
    if password.len() > MAX_PASSWORD {
        return false;
    }
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Compares two texts in a time that does not tell where they differ.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_hash_only() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(is_password_hash(&hash));
        assert!(verify_password("correct horse", &hash));
        assert!(!verify_password("correct horse ", &hash));
        assert!(!verify_password("", &hash));
        assert!(hash_password("").is_err());
        assert!(hash_password(&"x".repeat(MAX_PASSWORD + 1)).is_err());
        assert!(!is_password_hash("secret"));
        assert!(!is_password_hash(&hash.replace("m=19456", "m=99999999")));
    }

    #[test]
    fn tokens_are_random_and_have_a_hash() {
        let token = new_token().unwrap();
        assert_ne!(token, new_token().unwrap());
        assert_eq!(token.len(), 43);
        assert!(is_token_hash(&hash_token(&token)));
        assert_eq!(
            hash_token("abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(!is_token_hash(&token));
    }
}

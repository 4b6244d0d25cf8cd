//! What `burgess serve` and `burgess view` share as servers: the token, the warning without one, and the end.

use crate::machine::progress::Progress;
use crate::machine::stop;
use burgess_base::{Context, Error, Result};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Environment variable with the token of a server.
const TOKEN: &str = "BURGESS_TOKEN";

/// Reads the token from a file, or from the environment.
pub(super) fn token(file: Option<&Path>) -> Result<Option<String>> {
    let (token, source) = match file {
        Some(file) => {
            let source = file.display().to_string();
            (std::fs::read_to_string(file).with_context(|| format!("reading the token in {source}"))?, source)
        }
        None => match std::env::var(TOKEN) {
            Ok(token) => (token, TOKEN.to_string()),
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(e) => return Err(Error::usage(format!("{TOKEN}: {e}"))),
        },
    };
    let token = token.trim();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Error::usage(format!("the token in {source} is empty or has characters other than visible ASCII"))
            .hint("make one with `openssl rand -hex 16`"));
    }
    Ok(Some(token.to_string()))
}

/// Warns if a server without a token is not only for this machine; `can` says what everyone can do.
pub(super) fn warn_if_open(host: IpAddr, token: Option<&str>, can: &str, progress: &Progress) {
    if token.is_none() && !host.is_loopback() {
        progress.line(&format!(
            "warning: everyone who can reach {host} can {can}: set a token with --token-file or {TOKEN}"
        ));
    }
}

/// Waits until a signal asks to stop.
pub(super) async fn until_stopped() {
    while !stop::requested() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_visible_ascii() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("token");
        std::fs::write(&file, "abc-123\n")?;
        assert_eq!(token(Some(&file))?, Some("abc-123".into()));
        for wrong in ["", "\n", "a b", "ä"] {
            std::fs::write(&file, wrong)?;
            assert!(token(Some(&file)).is_err(), "{wrong:?}");
        }
        assert!(token(Some(Path::new("/nowhere/token"))).is_err_and(|e| e.to_string().contains("/nowhere/token")));
        Ok(())
    }
}

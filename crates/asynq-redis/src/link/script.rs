//! A Lua script, known to the server by its hash.

use std::sync::OnceLock;

use redis::{Cmd, RedisWrite as _};

use crate::args::Args;

/// Number of times that a script is loaded for one call. A larger number means that somebody flushes all the time.
pub(crate) const LOADS: u32 = 3;

/// A script with its name and source; make it a `static`.
///
/// An error reply of a script must be valid UTF-8 (never raw bytes of a task): the redis crate
/// gives up the whole connection over one that is not.
#[derive(Debug)]
pub(crate) struct Script {
    /// The name in logs and errors.
    pub(crate) name: &'static str,
    /// The text.
    pub(crate) source: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    /// A script called `name`.
    pub(crate) const fn new(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            source,
            hash: OnceLock::new(),
        }
    }

    /// The SHA-1 of the source in hex, which EVALSHA takes.
    pub(crate) fn hash(&self) -> &str {
        self.hash
            .get_or_init(|| redis::Script::new(self.source).get_hash().to_owned())
    }

    /// The command that runs it.
    pub(crate) fn invoke(&self, keys: &Args, args: &Args) -> Cmd {
        const NAME: &str = "EVALSHA";
        const DIGITS: usize = 20;
        let hash = self.hash();
        let bytes = NAME.len() + hash.len() + DIGITS + keys.bytes() + args.bytes();
        let mut cmd = Cmd::with_capacity(3 + keys.len() + args.len(), bytes);
        cmd.arg(NAME).arg(hash).write_arg_fmt(keys.len());
        for word in keys.iter().chain(args.iter()) {
            cmd.write_arg(word);
        }
        cmd
    }

    /// The command that puts it into the server's cache.
    pub(crate) fn load(&self) -> redis::Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(self.source);
        cmd
    }
}

/// The name of a command.
pub(crate) fn name_of(cmd: &Cmd) -> String {
    match cmd.args_iter().next() {
        Some(redis::Arg::Simple(word)) => String::from_utf8_lossy(word).into_owned(),
        _ => "command".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_server() {
        let script = Script::new("one", "return 1");
        assert_eq!(script.hash(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        let cmd = script.invoke(&Args::from_iter(["k"]), &Args::from_iter(["a", "b"]));
        let words: Vec<_> = cmd.get_packed_command();
        assert!(
            words.starts_with(b"*6\r\n$7\r\nEVALSHA\r\n"),
            "{}",
            String::from_utf8_lossy(&words)
        );
    }
}

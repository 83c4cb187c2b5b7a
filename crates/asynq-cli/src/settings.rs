//! The configuration file, its contexts, and the environment.
//!
//! The file is that of Go's program, `$HOME/.asynq.{yaml,yml,json,toml}`: default values of flags. Beside them it may hold
//! named contexts, one for each Redis.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use asynq_web::Environment;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    address::{Addresses, Redis},
    error::{CliError, Result},
};

/// Names of the configuration file in the home directory, in the order in which they are tried.
const FILES: [&str; 4] = [".asynq.yaml", ".asynq.yml", ".asynq.json", ".asynq.toml"];

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct File {
    /// Default values of the flags, as in Go's file.
    #[serde(flatten)]
    pub(crate) defaults: Redis,
    /// The context that counts if none is named.
    pub(crate) context: Option<String>,
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// A named Redis, and how careful to be with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) uri: Option<String>,
    pub(crate) db: Option<u32>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// The environment variable that has the password.
    pub(crate) password_env: Option<String>,
    pub(crate) cluster: Option<bool>,
    pub(crate) cluster_addrs: Option<Addresses>,
    pub(crate) tls: Option<bool>,
    pub(crate) tls_server: Option<String>,
    pub(crate) insecure: Option<bool>,
    /// Nothing can be changed here, unless the context is named on the command line.
    pub(crate) protected: bool,
    /// Nothing can be changed here.
    pub(crate) read_only: bool,
    /// Acts need a reason.
    pub(crate) require_reason: bool,
    /// The environment that web pages show.
    pub(crate) environment: Option<EnvironmentName>,
    /// Task types whose payloads and results are not shown; one that ends in `*` means all that begin alike.
    pub(crate) redact: Vec<String>,
}

/// The environment of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EnvironmentName {
    Production,
    Staging,
    Development,
}

impl From<EnvironmentName> for Environment {
    fn from(name: EnvironmentName) -> Self {
        match name {
            EnvironmentName::Production => Self::Production,
            EnvironmentName::Staging => Self::Staging,
            EnvironmentName::Development => Self::Development,
        }
    }
}

impl Context {
    /// Returns the environment that web pages show. A context that is protected is one of production if nothing else is said.
    pub(crate) fn environment(&self) -> Option<Environment> {
        let of_protected = self.protected.then_some(Environment::Production);
        self.environment.map(Environment::from).or(of_protected)
    }

    fn redis(&self) -> Result<Redis> {
        let password = match (&self.password, &self.password_env) {
            (Some(_), Some(_)) => {
                return Err(CliError::usage("`password` and `password_env` exclude each other"));
            }
            (password, None) => password.clone(),
            (None, Some(variable)) => Some(env::var(variable).map_err(|error| {
                // The text of the error would show the value.
                let fault = match error {
                    env::VarError::NotPresent => "is not set",
                    env::VarError::NotUnicode(_) => "is not UTF-8",
                };
                CliError::usage(format!("environment variable {variable} (`password_env`) {fault}"))
            })?),
        };
        Ok(Redis {
            password,
            ..self.without_password()
        })
    }

    /// Returns the values that may be shown.
    pub(crate) fn without_password(&self) -> Redis {
        Redis {
            uri: self.uri.clone(),
            db: self.db,
            username: self.username.clone(),
            password: None,
            cluster: self.cluster,
            cluster_addrs: self.cluster_addrs.clone(),
            tls: self.tls,
            tls_server: self.tls_server.clone(),
            insecure: self.insecure,
        }
    }
}

impl File {
    /// Reads the file that is named, or the first one in the home directory. Returns its path too.
    pub(crate) fn find(named: Option<&Path>) -> Result<(Self, Option<PathBuf>)> {
        let path = match named {
            Some(path) => Some(path.to_owned()),
            None => env::var_os("HOME")
                .map(PathBuf::from)
                .and_then(|home| FILES.iter().map(|name| home.join(name)).find(|path| path.is_file())),
        };
        match path {
            None => Ok((Self::default(), None)),
            Some(path) => Ok((Self::read(&path)?, Some(path))),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let wrong = |error: &dyn std::fmt::Display| CliError::usage(format!("cannot read {}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        Self::parse(&text, path.extension().and_then(|extension| extension.to_str())).map_err(|fault| wrong(&fault))
    }

    /// Reads the text of a file. No fault shows a value, as it could be a password.
    fn parse(text: &str, extension: Option<&str>) -> Result<Self, String> {
        let at = |line: usize, kind: &str| format!("line {line} is no {kind}");
        let value: Value = match extension {
            Some("toml") => toml::from_str(text).map_err(|error| {
                let before = text.get(..error.span().unwrap_or_default().start).unwrap_or_default();
                at(before.matches('\n').count() + 1, "TOML")
            })?,
            Some("json") => serde_json::from_str(text).map_err(|error| at(error.line(), "JSON"))?,
            _ => yaml_serde::from_str(text)
                .map_err(|error| at(error.location().map_or(1, |location| location.line()), "YAML"))?,
        };
        let Value::Object(entries) = value else {
            return Err("it has no keys".to_owned());
        };
        let mut file = Map::new();
        for (key, value) in entries.into_iter().filter(|(_, value)| !value.is_null()) {
            // As in Go's files, case does not count here.
            let key = key.to_lowercase();
            let value = match (key.as_str(), value) {
                ("contexts", Value::Object(contexts)) => contexts
                    .into_iter()
                    .map(|(name, context)| Ok((name.clone(), checked_context(&name, context)?)))
                    .collect::<Result<Map<String, Value>, String>>()
                    .map(Value::Object)?,
                ("contexts", _) => return Err("contexts: must have a name for each context".to_owned()),
                ("context", value) => checked("context", value, Kind::Text)?,
                (key, value) => match kind_of(key) {
                    Some(kind) => checked(key, value, kind)?,
                    // Other flags of Go's program.
                    None if ["config", "json", "refresh"].contains(&key) => continue,
                    None => return Err(format!("unknown key {key:?}")),
                },
            };
            file.insert(key, value);
        }
        serde_json::from_value(Value::Object(file)).map_err(|_| "a value has the wrong type".to_owned())
    }

    /// Returns a context by its name.
    pub(crate) fn context(&self, name: &str) -> Result<&Context> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let error = CliError::not_found(format!("no context {name:?} in the configuration file"));
            match known.is_empty() {
                true => error.hint("The file names no context; see `contexts` in the manual."),
                false => error.hint(format!("Known contexts: {}.", known.join(", "))),
            }
        })
    }
}

/// The kind of a value in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    Texts,
}

/// The kinds of the values that name and open a Redis.
fn kind_of(key: &str) -> Option<Kind> {
    Some(match key {
        "uri" | "username" | "password" | "tls_server" => Kind::Text,
        "db" => Kind::Number,
        "cluster" | "tls" | "insecure" => Kind::Flag,
        "cluster_addrs" => Kind::Texts,
        _ => return None,
    })
}

/// Checks the values of a context.
fn checked_context(name: &str, context: Value) -> Result<Value, String> {
    let Value::Object(entries) = context else {
        return Err(format!("contexts.{name}: must have keys, such as `uri`"));
    };
    let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
    let entries = entries.map(|(key, value)| {
        let kind = match key.as_str() {
            "password_env" => Kind::Text,
            "environment" => match value.as_str() {
                Some("production" | "staging" | "development") => Kind::Text,
                _ => {
                    return Err(format!(
                        "contexts.{name}.environment: must be production, staging or development"
                    ));
                }
            },
            "protected" | "read_only" | "require_reason" => Kind::Flag,
            "redact" => Kind::Texts,
            other => kind_of(other).ok_or_else(|| format!("contexts.{name}: unknown key {key:?}"))?,
        };
        let value = checked(&format!("contexts.{name}.{key}"), value, kind)?;
        Ok((key, value))
    });
    entries
        .collect::<Result<Map<String, Value>, String>>()
        .map(Value::Object)
}

/// Brings a value into its type, as Go's program does. The fault names the key, and does not show the value.
fn checked(key: &str, value: Value, kind: Kind) -> Result<Value, String> {
    let text = match &value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    let is_texts = |values: &Vec<Value>| values.iter().all(Value::is_string);
    match (kind, value, text) {
        (Kind::Text, _, Some(text)) => Ok(Value::String(text)),
        (Kind::Number, _, Some(text)) => text
            .parse::<u32>()
            .map(Value::from)
            .map_err(|_| format!("{key}: must be a number from 0 on")),
        (Kind::Flag, _, Some(text)) => text
            .parse::<bool>()
            .map(Value::Bool)
            .map_err(|_| format!("{key}: must be true or false")),
        (Kind::Texts, value @ Value::Array(_), _) if value.as_array().is_some_and(is_texts) => Ok(value),
        (Kind::Texts, _, Some(text)) if key != "redact" && !key.ends_with(".redact") => Ok(Value::String(text)),
        (Kind::Texts, _, Some(text)) => Ok(Value::Array(vec![Value::String(text)])),
        (Kind::Text | Kind::Number | Kind::Flag, ..) => Err(format!("{key}: must be one value")),
        (Kind::Texts, ..) => Err(format!("{key}: must be a list of texts")),
    }
}

/// The Redis to connect to, and what holds for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) redis: Redis,
    /// The context, if one counts.
    pub(crate) context: Option<String>,
    /// The context was named on the command line.
    pub(crate) named: bool,
    pub(crate) protected: bool,
    pub(crate) read_only: bool,
    pub(crate) require_reason: bool,
    pub(crate) redact: Vec<String>,
}

impl Target {
    /// Decides which Redis is meant: flags, then the named context, then the environment, then the context of the file, then
    /// the other values of the file.
    pub(crate) fn choose(flags: Redis, named: Option<&str>, env: Redis, file: &File) -> Result<Self> {
        let environment = env::var("ASYNQ_CONTEXT").ok().filter(|name| !name.is_empty());
        let implied = environment.as_deref().or(file.context.as_deref());
        if let Some(name) = named {
            let context = file.context(name)?;
            return Ok(Self::of(flags.or(context.redis()?), Some(name), true, file));
        }
        // An environment without an address is that of the address on the command line, as for Go's program.
        let given = match env.is_address() {
            true => flags.or(env),
            false => flags.filled_from(env),
        };
        match implied.filter(|_| !given.is_address()) {
            Some(name) => {
                let context = file.context(name)?;
                Ok(Self::of(given.or(context.redis()?), Some(name), false, file))
            }
            None => Ok(Self::of(given.or(file.defaults.clone()), None, false, file)),
        }
    }

    /// The target with its rules. A database keeps the rules of all contexts that are about it, however it is addressed;
    /// only a context that is named on the command line decides alone about acts.
    fn of(redis: Redis, context: Option<&str>, named: bool, file: &File) -> Self {
        let mut contexts: Vec<(&str, &Context)> = file
            .contexts
            .iter()
            .filter(|(_, context)| context.without_password().is_at(&redis))
            .map(|(name, context)| (name.as_str(), context))
            .collect();
        // Flags can lead elsewhere than to the context.
        let own = contexts.iter().copied().find(|(name, _)| Some(*name) == context);
        let named = named && own.is_some();
        let redact: Vec<String> = contexts
            .iter()
            .flat_map(|(_, context)| context.redact.clone())
            .collect();
        if let (true, Some(own)) = (named, own) {
            contexts = vec![own];
        }
        let any = |rule: fn(&Context) -> bool| contexts.iter().any(|(_, context)| rule(context));
        let most_careful = contexts
            .iter()
            .max_by_key(|(_, context)| (context.read_only, context.protected, context.require_reason));
        Self {
            context: own.as_ref().or(most_careful).map(|(name, _)| (*name).to_owned()),
            named,
            protected: any(|context| context.protected),
            read_only: any(|context| context.read_only),
            require_reason: any(|context| context.require_reason),
            redact,
            redis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXTS: &str = "
uri: 10.0.0.1:6379
context: dev
contexts:
  dev:
    uri: localhost:6379
    db: 1
  prod:
    uri: redis://10.0.0.1:6379
    protected: true
    redact: card
  prod-look:
    uri: redis://10.0.0.1
    read_only: true
";

    fn chosen(flags: Redis, named: Option<&str>) -> Target {
        let file = File::parse(CONTEXTS, None).unwrap();
        Target::choose(flags, named, Redis::default(), &file).unwrap()
    }

    fn uri(uri: &str) -> Redis {
        Redis {
            uri: Some(uri.to_owned()),
            ..Redis::default()
        }
    }

    #[test]
    fn a_database_keeps_the_rules_of_all_its_contexts() {
        for (flags, named) in [
            (uri("10.0.0.1:6379"), None),
            (uri("redis://10.0.0.1/0"), None),
            (uri("10.0.0.1"), Some("dev")),
        ] {
            let target = chosen(flags.clone(), named);
            assert!(target.protected && target.read_only && !target.named, "{flags:?}");
            assert_eq!(target.redact, ["card"]);
        }
        let implied = chosen(Redis::default(), None);
        assert_eq!((implied.context.as_deref(), implied.protected), (Some("dev"), false));
        let other_database = Redis {
            db: Some(5),
            ..Redis::default()
        };
        assert_eq!(chosen(other_database, Some("prod")).context, None);
    }

    #[test]
    fn a_context_that_is_named_counts_alone() {
        let prod = chosen(Redis::default(), Some("prod"));
        assert_eq!((prod.context.as_deref(), prod.named), (Some("prod"), true));
        assert!(prod.protected && !prod.read_only);
        assert_eq!(
            chosen(Redis::default(), Some("prod-look")).redact,
            ["card"],
            "hidden in any context"
        );
        assert!(chosen(Redis::default(), Some("prod-look")).read_only);
    }

    #[test]
    fn values_are_taken_as_go_takes_them() {
        let file = File::parse(
            "URI: h:1\npassword: 123456789\nDB: \"3\"\ncluster: \"true\"\ntls:\n",
            None,
        )
        .unwrap();
        assert_eq!(file.defaults.password.as_deref(), Some("123456789"));
        assert_eq!(
            (file.defaults.db, file.defaults.cluster, file.defaults.tls),
            (Some(3), Some(true), None)
        );
    }

    #[test]
    fn no_fault_of_a_file_shows_a_value() {
        for (text, extension, says) in [
            ("password = S3CRET", "toml", "line 1 is no TOML"),
            ("uri = 'a'\npassword = \"S3CRET", "toml", "line 2 is no TOML"),
            ("{\"uri\": \"a\",\n\"password\": S3CRET}", "json", "line 2 is no JSON"),
            ("uri: a\npassword: \"S3CRET", "yaml", "is no YAML"),
            ("password: [S3CRET]", "yaml", "password: must be one value"),
            ("db: S3CRET", "yaml", "db: must be a number"),
            ("tls: S3CRET", "yaml", "tls: must be true or false"),
            ("contxts: {prod: {password: S3CRET}}", "yaml", "unknown key \"contxts\""),
            (
                "contexts: {prod: {pasword: S3CRET}}",
                "yaml",
                "contexts.prod: unknown key \"pasword\"",
            ),
            (
                "contexts: {prod: {protected: S3CRET}}",
                "yaml",
                "contexts.prod.protected: must be true or false",
            ),
            ("contexts: S3CRET", "yaml", "contexts: must have a name"),
            ("S3CRET", "yaml", "it has no keys"),
        ] {
            let fault = File::parse(text, Some(extension)).unwrap_err();
            assert!(fault.contains(says) && !fault.contains("S3CRET"), "{text}: {fault}");
        }
    }
}

//! Users, their roles, and the ways in which a request proves who sends it.

mod authenticate;
mod password;
mod pattern;
mod proxy;
mod redaction;
mod role;
mod sessions;
mod throttle;
mod users;

pub(crate) use self::{
    authenticate::Ways,
    sessions::{Session, Sessions},
    throttle::Throttle,
};
pub use self::{
    authenticate::{AuthError, Authenticate, Credentials},
    password::{hash_password, hash_token, new_token},
    pattern::Pattern,
    proxy::TrustedProxy,
    redaction::RedactionRule,
    role::{Grant, Role, User},
    users::{Users, UsersError},
};

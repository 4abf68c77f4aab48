//! Who there is. A real service asks its database, where passwords are hashed with a function made for them, such as Argon2.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum_login::{AuthUser, AuthnBackend, UserId};
use serde::Deserialize;

#[derive(Debug, Clone)]
pub(crate) struct Users(Arc<Mutex<HashMap<String, User>>>);

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    password: String,
}

#[derive(Deserialize)]
pub(crate) struct Credentials {
    user: String,
    password: String,
}

#[derive(Deserialize)]
pub(crate) struct NewPassword {
    pub(crate) password: String,
}

impl Users {
    pub(crate) fn demonstration() -> Self {
        let user = |name: &str| (name.to_owned(), User { name: name.to_owned(), password: name.repeat(2) });
        Self(Arc::new(Mutex::new(["ann", "bob", "cy"].map(user).into())))
    }

    /// The user, with the new password.
    pub(crate) fn change_password(&self, user: User, password: String) -> User {
        let user = User { password, ..user };
        self.all().insert(user.name.clone(), user.clone());
        user
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, User>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    /// Who changes their password is signed out everywhere.
    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, Credentials { user, password }: Credentials) -> Result<Option<User>, Infallible> {
        Ok(self.all().get(&user).filter(|user| user.password == password).cloned())
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(self.all().get(id).cloned())
    }
}

//! Who a connection is, in the memory that every connection keeps of it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, SystemTime},
};

use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

use super::claim;
use crate::{
    any_id,
    room_key::{RoomKeyError, check_id},
};

/// Who authenticated, what their token claims, and until when.
///
/// ```
/// use rooms_core::Identity;
///
/// let identity = Identity::new("5")?.with_claims(r#"{"sub":"5","role":"editor"}"#);
/// #[derive(serde::Deserialize)]
/// struct Claims { role: String }
/// assert_eq!(identity.claims::<Claims>().unwrap().role, "editor");
/// assert!(Identity::new("5\n").is_err());
/// # Ok::<(), rooms_core::IdentityError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The claims as JSON text, in which the user's id nearly always stands; where it does not, the id is in front of them.
    /// Some tens of bytes in one allocation for each connection, where a parsed map would be some hundreds.
    text: Box<str>,
    fixed: Fixed,
}

/// Where in the text the user's id is, whether it is a guest's, and the end, in eight bytes, because every connection has them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fixed(u64);

impl Fixed {
    /// An id has 200 bytes at most.
    const LENGTH: u32 = 8;
    const GUEST: u64 = 1 << Self::LENGTH;
    /// The bits of the place, from its first one on. Claims that are longer in front of the id are few.
    const PLACE: u32 = Self::LENGTH + 1;
    const MOST_PLACE: usize = (1 << 10) - 1;
    /// The bits before the end.
    const BEFORE: u32 = Self::PLACE + 10;

    const fn new(user: usize) -> Self {
        Self(user as u64 & 0xFF)
    }

    const fn as_guest(self) -> Self {
        Self(self.0 | Self::GUEST)
    }

    /// 0 is in front of the claims.
    const fn placed_at(self, place: usize) -> Self {
        let place = if place > Self::MOST_PLACE { 0 } else { place as u64 };
        Self(self.0 & !((Self::MOST_PLACE as u64) << Self::PLACE) | (place << Self::PLACE))
    }

    /// In milliseconds since 1970, from 1 on; 0 is none.
    fn ending_at(self, end: SystemTime) -> Self {
        let since_1970 = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX).clamp(1, u64::MAX >> Self::BEFORE);
        Self(self.0 & ((1 << Self::BEFORE) - 1) | (millis << Self::BEFORE))
    }

    const fn place(self) -> usize {
        (self.0 >> Self::PLACE) as usize & Self::MOST_PLACE
    }

    const fn length(self) -> usize {
        self.0 as usize & 0xFF
    }

    const fn is_guest(self) -> bool {
        self.0 & Self::GUEST != 0
    }

    fn end(self) -> Option<SystemTime> {
        let millis = self.0 >> Self::BEFORE;
        (millis > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }
}

/// A user id that is not one: 1 to 200 of `A-Z a-z 0-9 - _ . ~ @ | + = / :`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a user id")]
pub struct IdentityError(#[from] RoomKeyError);

impl Identity {
    /// An identity without claims that never expires.
    ///
    /// # Errors
    /// The user's id must obey the rule for the id of a room, because `user:{id}` is one.
    pub fn new(user: impl Into<Box<str>>) -> Result<Self, IdentityError> {
        let user = user.into();
        check_id(&user)?;
        Ok(Self { fixed: Fixed::new(user.len()), text: user })
    }

    /// An identity of a user whose id is any text, such as an e-mail address or a name; encoded as
    /// [`RoomKey::encode`](crate::RoomKey::encode) does it, so that `user:{id}` is that user's room. Rules, hooks and other
    /// members see the encoded id.
    ///
    /// ```
    /// use rooms_core::Identity;
    ///
    /// let identity = Identity::encode("m\u{fc}ller@example.com")?;
    /// assert_eq!(identity.user(), "m=C3=BCller@example.com");
    /// assert_eq!(identity.decode_user().as_deref(), Some("m\u{fc}ller@example.com"));
    /// # Ok::<(), rooms_core::IdentityError>(())
    /// ```
    ///
    /// # Errors
    /// The id is empty, or longer than 200 bytes once it is encoded.
    pub fn encode(user: &str) -> Result<Self, IdentityError> {
        Self::new(&*any_id::encode(user))
    }

    /// The id that [`encode`](Self::encode) was given; `None` where the identity was not made by it.
    #[must_use]
    pub fn decode_user(&self) -> Option<Cow<'_, str>> {
        any_id::decode(self.user())
    }

    /// Somebody who did not sign in: a user of a random id, `guest:` and 32 hexadecimal digits, for this connection alone.
    ///
    /// Guests join rooms of kinds that say so: [`Kind::public`](crate::Kind::public), or a rule of the application's.
    /// [`Kind::authenticated`](crate::Kind::authenticated) refuses them.
    #[must_use]
    pub fn guest() -> Self {
        // Of random keys that the standard library asks the operating system for once in each thread, and counts on from there:
        // all ids differ, and none tells another; see `NodeId`.
        let random = || RandomState::new().hash_one(0_u8);
        let text: Box<str> = format!("guest:{:016x}{:016x}", random(), random()).into();
        Self { fixed: Fixed::new(text.len()).as_guest(), text }
    }

    /// Whether it is a [`guest`](Self::guest).
    #[must_use]
    pub const fn is_guest(&self) -> bool {
        self.fixed.is_guest()
    }

    /// The same identity with more claims: one of a name that is there already takes its place.
    ///
    /// # Errors
    /// Where the claims that are there are not a JSON object.
    pub fn and_claims<N: Into<String>>(
        self,
        more: impl IntoIterator<Item = (N, Value)>,
    ) -> Result<Self, serde_json::Error> {
        // Raw, so that no number of theirs is written anew.
        let mut claims: BTreeMap<String, Box<RawValue>> = self.claims()?;
        for (name, value) in more {
            claims.insert(name.into(), serde_json::value::to_raw_value(&value)?);
        }
        let claims = serde_json::to_string(&claims)?;
        Ok(self.with_claims(claims))
    }

    /// The same identity with claims, a JSON object as text.
    #[must_use]
    pub fn with_claims(self, claims: impl AsRef<str>) -> Self {
        let (user, claims) = (self.user(), claims.as_ref());
        let fixed = self.fixed.placed_at(claims.find(user).unwrap_or_default());
        let text = if fixed.place() == 0 { [user, claims].concat().into() } else { claims.into() };
        Self { text, fixed }
    }

    /// The same identity with an end: at that time a connection that is [served](crate::RoomManager::serve) for it is closed
    /// with 4401. One that is only [driven](crate::Connection::drive) goes on. Kept in whole milliseconds since 1970, for some
    /// 1,000 years; an earlier end is one in the past all the same.
    #[must_use]
    pub fn expiring_at(self, expires_at: SystemTime) -> Self {
        Self { fixed: self.fixed.ending_at(expires_at), ..self }
    }

    /// The user's id.
    #[must_use]
    pub fn user(&self) -> &str {
        let place = self.fixed.place();
        self.text.get(place..place + self.fixed.length()).unwrap_or(&self.text)
    }

    /// The claims, parsed into a type of the application's.
    ///
    /// # Errors
    /// Those of the type's `Deserialize`.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.claims_text())
    }

    pub(super) fn claims_text(&self) -> &str {
        let front = if self.fixed.place() == 0 { self.fixed.length() } else { 0 };
        let claims = self.text.get(front..).filter(|claims| !claims.is_empty());
        claims.unwrap_or("{}")
    }

    /// One claim, parsed into a type of the application's; `None` where it is absent or `null`.
    ///
    /// ```
    /// use rooms_core::Identity;
    ///
    /// let identity = Identity::new("5")?.with_claims(r#"{"sub":"5","https://app.example/role":"editor"}"#);
    /// assert_eq!(identity.claim("https://app.example/role").unwrap(), Some("editor".to_owned()));
    /// assert_eq!(identity.claim::<u64>("level").unwrap(), None);
    /// # Ok::<(), rooms_core::IdentityError>(())
    /// ```
    ///
    /// # Errors
    /// It has another type, it comes twice, or the claims are not a JSON object.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, serde_json::Error> {
        claim::named(self.claims_text(), name)
    }

    /// When the identity ends; `None` for never.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.fixed.end()
    }
}

/// Without the claims, which may hold what does not belong in a log.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_and_the_claims_are_what_they_were_wherever_the_id_stands() {
        let far = format!(r#"{{"x":"{}","sub":"user5"}}"#, "y".repeat(1_008));
        let too_far = format!(r#"{{"x":"{}","sub":"user5"}}"#, "y".repeat(1_009));
        let none = r#"{"role":"editor"}"#;
        for (claims, kept) in [
            (r#"{"exp":1,"sub":"user5"}"#, 23),
            (r#"{"user5":{}}"#, 12),
            (&far, far.len()),
            (&too_far, too_far.len() + 5),
            (none, none.len() + 5),
            ("", 5),
            ("user5", 10),
        ] {
            let end = SystemTime::UNIX_EPOCH + Duration::from_millis(4_000_000_000_123);
            let plain = Identity::new("user5").unwrap().expiring_at(end);
            let identity = plain.with_claims(claims);
            assert_eq!((identity.user(), identity.text.len()), ("user5", kept), "{claims:.40}");
            assert_eq!(identity.claims_text(), if claims.is_empty() { "{}" } else { claims });
            assert_eq!((identity.expires_at(), identity.is_guest()), (Some(end), false));
            // Anew, in another place.
            let again = identity.with_claims(none).with_claims(claims);
            assert_eq!((again.user(), again.claims_text()), ("user5", if claims.is_empty() { "{}" } else { claims }));
        }
        let guest = Identity::guest();
        let name = guest.user().to_owned();
        let guest = guest.with_claims(format!(r#"{{"name":"{name}"}}"#));
        assert!(guest.is_guest() && guest.user() == name);
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Identity>(), 24, "every connection has one");
    }
}

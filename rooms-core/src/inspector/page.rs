//! The page: one file, and the policy that lets nothing else run in it.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_SECURITY_POLICY};
use sha2::{Digest as _, Sha256};

use super::answer::answer;

const PAGE: &str = include_str!("page.html");

/// By Content Security Policy Level 3: the one script and the one style by their hashes, requests to this host alone, and no
/// text that becomes HTML or script (Trusted Types).
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let (script, style) = (hash_of("<script>", "</script>"), hash_of("<style>", "</style>"));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    HeaderValue::try_from(policy).ok()
});

pub(super) fn page() -> Response<Bytes> {
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes()));
    // Always there: base64 is of a header's characters.
    if let Some(policy) = POLICY.clone() {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// The hash of what stands between two tags of the page.
fn hash_of(begin: &str, end: &str) -> String {
    let after = PAGE.split_once(begin).map(|(_, after)| after);
    let inside = after.and_then(|after| after.split_once(end)).map_or("", |(inside, _)| inside);
    STANDARD.encode(Sha256::digest(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_and_one_style_and_loads_nothing() {
        for tag in ["<script", "</script>", "<style", "</style>"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
        // The name of a namespace is no address.
        let text = PAGE.replace("http://www.w3.org/2000/svg", "");
        for loads in ["src=", "http://", "https://", "url(", "@import", "import(", "innerHTML", "style=\"", "onclick="]
        {
            assert!(!text.contains(loads), "{loads}");
        }
    }
}

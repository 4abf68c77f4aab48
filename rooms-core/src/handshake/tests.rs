use http::{Method, Request, header::AUTHORIZATION};

use super::*;

fn request(uri: &str, change: impl FnOnce(&mut HeaderMap)) -> Request<()> {
    let mut request = Request::builder().uri(uri).body(()).unwrap();
    let headers = request.headers_mut();
    for (name, value) in [
        ("host", "rooms.example"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    change(headers);
    request
}

fn read(endpoint: &Endpoint, request: &Request<()>) -> Result<Handshake, Refusal> {
    Handshake::read(endpoint, request.method(), request.uri(), request.headers())
}

fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut HeaderMap) {
    move |headers| _ = headers.insert(name, HeaderValue::from_static(value))
}

#[test]
fn the_answer_is_that_of_the_rfc() {
    let response = read(&Endpoint::new(), &request("/", |_| {})).unwrap().response();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="); // RFC 6455 section 1.3
}

#[test]
fn what_is_no_upgrade_is_refused_with_a_reason() {
    let refusal = |change: Box<dyn FnOnce(&mut HeaderMap)>| read(&Endpoint::new(), &request("/", change)).unwrap_err();
    assert_eq!(refusal(Box::new(|h| _ = h.remove("connection"))), Refusal::NotAnUpgrade);
    assert_eq!(refusal(Box::new(set("upgrade", "h2c"))), Refusal::NotAnUpgrade);
    assert_eq!(refusal(Box::new(set("sec-websocket-version", "8"))), Refusal::Version);
    assert_eq!(refusal(Box::new(|h| _ = h.remove("sec-websocket-key"))), Refusal::Key);
    assert_eq!(refusal(Box::new(set("sec-websocket-key", "c2hvcnQ="))), Refusal::Key);
    assert_eq!(Refusal::Version.response().headers()["sec-websocket-version"], "13");
    assert_eq!(Refusal::Draining.response().headers()["retry-after"], "1");
    let mut post = request("/", |_| {});
    *post.method_mut() = Method::POST;
    assert_eq!(read(&Endpoint::new(), &post).unwrap_err(), Refusal::Method);
}

#[test]
fn a_key_is_22_characters_of_base64_and_is_not_decoded() {
    let key = |key: &'static str| read(&Endpoint::new(), &request("/", set("sec-websocket-key", key))).map(|_| ());
    // The example of RFC 6455 section 4.1, and others with bits behind the sixteenth byte.
    for good in ["AQIDBAUGBwgJCgsMDQ4PEC==", "++++++++++++++++++++//==", "zzzzzzzzzzzzzzzzzzzzzz=="] {
        assert_eq!(key(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "==",
        "AQIDBAUGBwgJCgsMDQ4PE===",
        "AQIDBAUGBwgJCgsMDQ4PECA=",
        "AQIDBAUGBwgJCgsMDQ4PECAA",
        "AQIDBAUGBwgJCgsMDQ4PEC=",
        "AQIDBAUGBwgJCgsMDQ4PEC===",
        "AQIDBAUGBwgJCgsMDQ4PECC==",
        "AQIDBAUGBwgJCgsMDQ4PE-==",
        "AQIDBAUGBwgJCgsMDQ4PE ==",
    ] {
        assert_eq!(key(bad), Err(Refusal::Key), "{bad}");
    }
    let example = request("/", set("sec-websocket-key", "AQIDBAUGBwgJCgsMDQ4PEC=="));
    let response = read(&Endpoint::new(), &example).unwrap().response();
    assert_eq!(response.headers()["sec-websocket-accept"], "OfS0wDaT5NoxF2gqm7Zj2YtetzM=");
}

#[test]
fn what_was_compared_with_an_origin_may_be_logged() {
    let mismatch = |host: Option<&[u8]>, origin: &[u8]| {
        let request = request("/", |headers| {
            headers.remove("host");
            if let Some(host) = host {
                headers.insert("host", HeaderValue::from_bytes(host).unwrap());
            }
            headers.insert("origin", HeaderValue::from_bytes(origin).unwrap());
        });
        let Mismatch { origin, host } = mismatch(request.uri(), request.headers());
        (origin, host)
    };
    let words = |origin: &str, host: &str| (origin.to_owned(), host.to_owned());
    assert_eq!(
        mismatch(Some(b"127.0.0.1:3000"), b"https://App.example"),
        words("https://app.example", "127.0.0.1:3000")
    );
    assert_eq!(mismatch(Some(b"[::1]:80"), b"http://a.example:8080"), words("http://a.example:8080", "[::1]"));
    assert_eq!(mismatch(None, b"null"), words("null", "none"));
    for hostile in ["a\tb", "<b>", "a b", "%0A", "u:secret@a.example", "a.example/secret", ""] {
        let origin = format!("https://{hostile}");
        let logged = mismatch(Some(hostile.as_bytes()), origin.as_bytes());
        assert_eq!(logged, words("(not an origin)", "(not a host)"), "{hostile:?}");
    }
    let right_to_left = "https://\u{202e}".as_bytes();
    assert_eq!(mismatch(Some(right_to_left), right_to_left), words("(not an origin)", "none"));
    let (longest, longer) = ("h".repeat(253), "h".repeat(254));
    assert_eq!(
        mismatch(Some(longest.as_bytes()), format!("https://{longest}").as_bytes()),
        words(&format!("https://{longest}"), &longest)
    );
    assert_eq!(
        mismatch(Some(longer.as_bytes()), format!("https://{longer}").as_bytes()),
        words("(too long)", "(too long)")
    );
}

/// As HTTP servers hand it on: `:protocol` is not a header (RFC 8441 section 5).
fn extended_connect(change: impl FnOnce(&mut HeaderMap)) -> Request<()> {
    let mut connect = request("https://rooms.example/", |headers| {
        for name in ["host", "connection", "upgrade", "sec-websocket-key"] {
            headers.remove(name);
        }
        change(headers);
    });
    *connect.method_mut() = Method::CONNECT;
    connect
}

#[test]
fn an_adapter_that_knows_no_http_2_refuses_an_extended_connect() {
    assert_eq!(read(&Endpoint::new(), &extended_connect(|_| {})).unwrap_err(), Refusal::ExtendedConnect);
    assert_eq!(Refusal::ExtendedConnect.response().status(), 501);
}

#[test]
fn an_extended_connect_is_checked_as_an_upgrade_is_and_answered_with_200() {
    let endpoint = Endpoint::new().protocol_token("app.v1");
    let read = |protocol, change: Box<dyn FnOnce(&mut HeaderMap)>| {
        let request = extended_connect(change);
        Handshake::read(&endpoint, Opening::ExtendedConnect(protocol), request.uri(), request.headers())
    };
    let handshake = read("websocket", Box::new(set("sec-websocket-protocol", "app.v1, bearer, abc"))).unwrap();
    assert_eq!(handshake.token(), Ok(Some("abc")));
    let response = handshake.response();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().len(), 1, "RFC 9113 section 8.2.2 forbids those of HTTP/1.1");
    assert_eq!(response.headers()["sec-websocket-protocol"], "app.v1");

    assert_eq!(read("connect-udp", Box::new(|_| {})).unwrap_err(), Refusal::Protocol);
    assert_eq!(read("WebSocket", Box::new(|_| {})).unwrap_err(), Refusal::Protocol);
    assert_eq!(Refusal::Protocol.response().status(), 501);
    assert_eq!(read("websocket", Box::new(set("sec-websocket-version", "8"))).unwrap_err(), Refusal::Version);
    // The host is that of `:authority`.
    assert!(read("websocket", Box::new(set("origin", "https://rooms.example"))).is_ok());
    assert_eq!(read("websocket", Box::new(set("origin", "https://evil.example"))).unwrap_err(), Refusal::Origin);
}

#[test]
fn the_same_host_may_connect_and_no_other() {
    let allowed = |host: &'static str, origin: &'static str| {
        let request = request("/", |headers| {
            set("host", host)(headers);
            set("origin", origin)(headers);
        });
        read(&Endpoint::new(), &request).is_ok()
    };
    assert!(allowed("rooms.example", "https://rooms.example"));
    assert!(allowed("rooms.example", "http://ROOMS.example:80"));
    assert!(allowed("localhost:3000", "http://localhost:3000"));
    assert!(allowed("[::1]:3000", "http://[::1]:3000"));
    for (host, origin) in [
        ("rooms.example", "https://evil.example"),
        ("rooms.example", "https://rooms.example.evil.example"),
        ("rooms.example", "https://evil.example/rooms.example"),
        ("rooms.example", "https://rooms.example@evil.example"),
        ("rooms.example", "https://user@rooms.example"),
        ("rooms.example", "https://rooms.example:8443"),
        ("rooms.example", "https://rooms.example:"),
        ("rooms.example", "https://rooms.example:abc"),
        ("rooms.example", "https://rooms.example:99999"),
        ("rooms.example", "https://rooms.example/"),
        ("rooms.example", "null"),
        ("rooms.example", "file://"),
        ("rooms.example", "rooms.example"),
        ("rooms.example", ""),
        ("localhost:3000", "http://localhost:3001"),
    ] {
        assert!(!allowed(host, origin), "{origin}");
    }
}

#[test]
fn a_list_replaces_the_same_host_and_is_exact() {
    let endpoint = Endpoint::new().origins(["https://app.example", "http://localhost:3000"]).unwrap();
    let allowed = |origin: &'static str| read(&endpoint, &request("/", set("origin", origin))).is_ok();
    assert!(allowed("https://app.example") && allowed("https://app.example:443") && allowed("http://localhost:3000"));
    assert!(!allowed("http://app.example") && !allowed("https://rooms.example") && !allowed("https://xapp.example"));
    assert!(read(&endpoint, &request("/", |_| {})).is_ok(), "no browser");
    for bad in ["*", "app.example", "https://app.example/path", "ws://app.example", "https://*.example", ""] {
        assert!(Endpoint::new().origins([bad]).is_err(), "{bad}");
    }
}

#[test]
fn two_origins_are_none() {
    let request = request("/", |headers| {
        headers.append("origin", HeaderValue::from_static("https://rooms.example"));
        headers.append("origin", HeaderValue::from_static("https://rooms.example"));
    });
    assert_eq!(read(&Endpoint::new(), &request).unwrap_err(), Refusal::Origin);
}

#[test]
fn the_token_is_where_the_endpoint_says() {
    let query = Endpoint::new().query_token("token");
    let token = |endpoint: &Endpoint, uri: &str, bearer: Option<&'static str>| {
        let request = request(uri, |headers| {
            if let Some(bearer) = bearer {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(bearer));
            }
        });
        read(endpoint, &request).map(|handshake| handshake.token().unwrap().map(ToOwned::to_owned))
    };
    assert_eq!(token(&query, "/?a=1&token=abc", None), Ok(Some("abc".into())));
    assert_eq!(token(&Endpoint::new(), "/?token=abc", None), Ok(None), "not unless the endpoint says so");
    assert_eq!(token(&query, "/", Some("Bearer abc")), Ok(Some("abc".into())));
    assert_eq!(token(&query, "/", Some("bearer abc")), Ok(Some("abc".into())));
    assert_eq!(token(&query, "/", Some("Basic abc")), Ok(None));
    assert_eq!(token(&query, "/", None), Ok(None));
    assert_eq!(token(&query, "/?token=a", Some("Bearer a")), Err(Refusal::ManyTokens));
    assert_eq!(token(&query, "/?token=a&token=b", None), Err(Refusal::ManyTokens));
    let twice = query.clone().query_token("token").query_token("ticket");
    assert_eq!(token(&twice, "/?token=a", None), Ok(Some("a".into())), "one source");
    assert_eq!(token(&twice, "/?token=a&ticket=b", None), Err(Refusal::ManyTokens));
    let without_header = query.without_header_token();
    assert_eq!(token(&without_header, "/?token=a", Some("Bearer of-a-proxy")), Ok(Some("a".into())));
    assert_eq!(token(&without_header, "/", Some("Bearer of-a-proxy")), Ok(None), "not looked at");
    assert_eq!(token(&without_header, "/?token=a&%74oken=b", None), Err(Refusal::ManyTokens));
    assert_eq!(token(&Endpoint::new().without_header_token(), "/?token=a", Some("Bearer a")), Ok(None));
}

#[test]
fn the_token_and_its_parameter_are_decoded_in_the_query_and_only_there() {
    let endpoint = Endpoint::new().query_token("t/k");
    let token =
        |uri: &str| read(&endpoint, &request(uri, |_| {})).unwrap().token().map(|token| token.map(str::to_owned));
    let good = Ok(Some("hxqp/3+Yt0sN5eZVw1l0bA==".to_owned()));
    assert_eq!(token("/?t/k=hxqp%2F3%2BYt0sN5eZVw1l0bA%3D%3D"), good);
    assert_eq!(token("/?t%2fk=hxqp/3+Yt0sN5eZVw1l0bA=="), good);
    assert_eq!(token("/?t/k=a%2Eb%26c%3Dd%2541"), Ok(Some("a.b&c=d%41".to_owned())), "once");
    assert_eq!(token("/?t/k=%C3%A9"), Ok(Some("é".to_owned())));
    for malformed in ["%", "a%2", "a%zz", "%+1", "%FF", "%C3"] {
        assert_eq!(token(&format!("/?t/k={malformed}")), Err(AuthError::Encoding), "{malformed}");
    }
    assert_eq!(token("/?t%zzk=a&%=b&t/k=c"), Ok(Some("c".to_owned())), "another parameter's name");
    let header = request("/", |headers| _ = headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer a%2Fb")));
    assert_eq!(read(&endpoint, &header).unwrap().token(), Ok(Some("a%2Fb")));
}

#[test]
fn the_token_is_not_printed() {
    let handshake = read(&Endpoint::new().query_token("token"), &request("/?token=secret", |_| {})).unwrap();
    assert!(!format!("{handshake:?}").contains("secret"));
}

use super::*;

fn code(method: &str, target: &str, body: &str) -> u16 {
    read(method, target, body.as_bytes()).map_or_else(|w| w.0, |_| 200)
}

#[test]
fn every_request_survives_the_way_there() {
    let all = [
        Request::Status,
        Request::Blocked,
        Request::Connect { relay: None },
        Request::Connect { relay: Some("se-got-001".into()) },
        Request::Disconnect,
        Request::Reconnect,
        Request::Lockdown { on: true },
        Request::Disarm,
        Request::Relays { filter: None },
        Request::Relays { filter: Some("São Paulo & 100%".into()) },
        Request::Reload,
        Request::Apply(Apply::default()),
        Request::Apply(Apply {
            dry_run: true,
            confirm_within: Some(3600),
            address: Some("fe80::1".parse().unwrap()),
            device: Some("br-lan".parse().unwrap()),
            port: Some(22),
        }),
        Request::Confirm,
        Request::Undo,
        Request::Lease { device: "eth0.2".parse().unwrap(), server: Some([192, 0, 2, 1].into()) },
        Request::Lease { device: "wan".parse().unwrap(), server: None },
    ];
    for request in all {
        let (method, target, body) = write(&request);
        assert_eq!(read(method, &target, body.as_bytes()), Ok(request));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for (method, target, body, expected) in [
        ("GET", "/", "", 404),
        ("GET", "/v2/status", "", 404),
        ("GET", "/v1/status/", "", 404),
        ("GET", "/v1/../v1/status", "", 404),
        ("POST", "/v1/status", "", 405),
        ("GET", "/v1/disarm", "", 405),
        ("get", "/v1/status", "", 405),
        ("GET", "/v1/status?x=1", "", 400),
        ("GET", "/v1/status", "{}", 400),
        ("GET", "/v1/relays?filter=%ff", "", 400),
        ("GET", "/v1/relays?filter=%1", "", 400),
        ("GET", "/v1/relays?filter=%0a", "", 400),
        ("GET", "/v1/relays?filter=a&b=c", "", 400),
        ("GET", "/v1/relays?x=y", "", 400),
        ("POST", "/v1/connect", "{", 400),
        ("POST", "/v1/connect", "[]", 400),
        ("POST", "/v1/connect", r#"{"relay":7}"#, 400),
        ("POST", "/v1/connect", r#"{"relay":"a b"}"#, 400),
        ("POST", "/v1/connect", r#"{"relay":"a","force":true}"#, 400),
        ("POST", "/v1/connect", r#"{"relay":"a"} x"#, 400),
        ("POST", "/v1/connect", r#"{"relay":["a"]}"#, 400),
        ("POST", "/v1/connect", r#"{"relay":"a{"}"#, 400),
        ("POST", "/v1/connect", r#"{"relay":"a","relay":"b"}"#, 400),
        ("POST", "/v1/connect", r#"{"relay":null}"#, 200),
        ("POST", "/v1/lockdown", r#"{"on":null}"#, 400),
        ("POST", "/v1/lockdown", "{}", 400),
        ("POST", "/v1/apply", r#"{"dry_run":null}"#, 400),
        ("POST", "/v1/disarm", r#"{"for_s":1.0}"#, 400),
        ("POST", "/v1/lockdown", "", 400),
        ("POST", "/v1/lockdown", r#"{"on":"yes"}"#, 400),
        ("POST", "/v1/disconnect", r#"{"on":true}"#, 400),
        ("GET", "/v1/apply", "", 405),
        ("POST", "/v1/apply", r#"{"confirm_within":0}"#, 400),
        ("POST", "/v1/apply", r#"{"confirm_within":3601}"#, 400),
        ("POST", "/v1/apply", r#"{"confirm_within":-1}"#, 400),
        ("POST", "/v1/apply", r#"{"address":"localhost"}"#, 400),
        ("POST", "/v1/apply", r#"{"device":"a b"}"#, 400),
        ("POST", "/v1/apply", r#"{"port":70000}"#, 400),
        ("POST", "/v1/apply", r#"{"force":true}"#, 400),
        ("POST", "/v1/apply", "[true]", 400),
        ("POST", "/v1/confirm", r#"{"yes":1}"#, 400),
        ("GET", "/v1/undo", "", 405),
        ("POST", "/v1/apply", "", 200),
        ("POST", "/v1/lease", r#"{"device":"../x"}"#, 400),
        ("POST", "/v1/lease", r#"{"device":"wan","server":"::1"}"#, 400),
        ("POST", "/v1/disconnect", "", 200),
        ("POST", "/v1/connect", "", 200),
        ("GET", "/v1/relays?filter=", "", 200),
    ] {
        assert_eq!(code(method, target, body), expected, "{method} {target} {body}");
    }
    for (path, body, expected) in [
        ("/v1/lockdown", "{}", "body: on: is missing"),
        ("/v1/connect", r#"{"force":1}"#, "body: force: is not known here; what is: [relay]"),
        ("/v1/connect", r#"{"relay":7}"#, "body: relay: is no text"),
        (
            "/v1/lease",
            r#"{"device":"../x"}"#,
            "body: device: is no device name (1 to 15 of A-Z a-z 0-9 . _ -)",
        ),
        ("/v1/apply", r#"{"port":70000}"#, "body: port: is no whole number from 0 to 65535"),
        ("/v1/reload", "{} x", "body: trailing characters at line 1 column 4"),
    ] {
        assert_eq!(read("POST", path, body.as_bytes()), Err(Wrong(400, expected.to_owned())));
    }
    let deep = "[".repeat(8000);
    assert_eq!(code("POST", "/v1/connect", &deep), 400);
}

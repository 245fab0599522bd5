//! TokenReview: whose a token is, and for whom it was made.

use axum::{
    extract::State as Part,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{Shared, serve::refuse};

/// Whose a token is.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// For whom the token was made.
    pub audiences: Vec<String>,
    /// The node of its pod, as newer servers tell it.
    pub node: Option<String>,
}

/// Where reviews are asked for.
pub(crate) const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

pub(crate) async fn review(Part(shared): Part<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = shared.state();
    let call = ("create", "authentication.k8s.io".to_owned(), "tokenreviews".to_owned());
    *state.calls.entry(call).or_default() += 1;
    if let Some(code) = state.faults.code(&headers) {
        return refuse(code, "as the test asks");
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else { return refuse(400, "not JSON") };
    let wanted: Vec<&str> =
        asked["spec"]["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let user = asked["spec"]["token"].as_str().and_then(|token| state.tokens.get(token));
    // As the real one: a token that was made for none of the audiences asked for is no token.
    let user = user.map(|user| {
        let shared: Vec<&String> =
            user.audiences.iter().filter(|audience| wanted.contains(&audience.as_str())).collect();
        (user, shared)
    });
    let status = match user {
        Some((user, audiences)) if !audiences.is_empty() => {
            let extra =
                user.node.iter().map(|node| ("authentication.kubernetes.io/node-name".to_owned(), json!([node])));
            let extra: serde_json::Map<String, Value> = extra.collect();
            json!({ "authenticated": true, "audiences": audiences, "user": { "username": user.name, "extra": extra } })
        }
        _ => json!({ "authenticated": false, "error": "invalid bearer token", "user": {} }),
    };
    let answer =
        json!({ "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "status": status });
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

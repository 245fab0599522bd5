//! The page of the login: a form, no script.

/// Its style; the policy allows none inside the page.
pub(super) const STYLE: &str = "\
:root{color-scheme:dark light}
body{background:#0b1017;color:#dfe7f1;font:15px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:100vh;margin:0}
main{background:#0f1620;border:1px solid rgba(148,170,200,.14);border-radius:10px;padding:28px;width:min(340px,86vw)}
h1{font-size:18px;margin:0 0 4px}p{color:#8595a8;margin:0 0 16px}.wrong{color:#ff5a5f}
label{display:block;margin-bottom:6px}
input,button{box-sizing:border-box;width:100%;font:inherit;padding:10px;border-radius:6px;border:1px solid rgba(148,170,200,.3)}
input{background:#0b1017;color:inherit;margin-bottom:12px}button{background:#6ea8fe;color:#0b1017;border:0;cursor:pointer}
:focus-visible{outline:2px solid #6ea8fe;outline-offset:2px}
@media (prefers-color-scheme:light){body{background:#f3f5f8;color:#142033}main{background:#fff}input{background:#fff}
p{color:#5b6b80}.wrong{color:#d3262c}button{background:#2463d6;color:#fff}}
";

/// The form; after it was filled `next` is opened, and `why` says what was wrong with it the last time.
pub(super) fn page(next: &str, why: Option<&str>) -> String {
    let why = why.map_or_else(String::new, |why| format!("<p class=\"wrong\" role=\"alert\">{}</p>", escape(why)));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Orrery: log in</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><link rel=\"stylesheet\" href=\"/login.css\">\
         </head><body><main><h1>Orrery</h1><p>The collector's token opens the map.</p>{why}\
         <form method=\"post\" action=\"/login\"><input type=\"hidden\" name=\"next\" value=\"{}\">\
         <label for=\"token\">Token</label><input id=\"token\" name=\"token\" type=\"password\" \
         autocomplete=\"current-password\" required autofocus><button>Log in</button></form></main></body></html>",
        escape(next)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn nothing_of_an_address_becomes_markup() {
        let html = page("/?filter=\"><script>alert('1')</script>&x", Some("<b>"));
        assert!(!html.contains("<script") && !html.contains("<b>"));
        assert!(html.contains("/?filter=&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;x"));
    }
}

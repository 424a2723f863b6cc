//! Headless Chromium, over a pair of pipes: <https://chromedevtools.github.io/devtools-protocol/>.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    _directory: TempDir,
    commands: File,
    messages: Receiver<Value>,
    session: String,
    last: u64,
    /// Addresses that were asked for.
    pub(crate) requests: Vec<String>,
    /// What the page complained of.
    pub(crate) complaints: Vec<String>,
}

impl Browser {
    /// Starts it. Without Chromium the test fails: it is among what `cargo xtask setup` installs.
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let [input, output] = ["in", "out"].map(|name| directory.path().join(name));
        for pipe in [&input, &output] {
            mkfifo(pipe, Mode::S_IRWXU).unwrap();
        }
        let script = "exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe \
                      --no-first-run --disable-background-networking --disable-component-update \
                      --hide-scrollbars --user-data-dir=\"$3\" about:blank 3<\"$1\" 4>\"$2\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .args([&input, &output, &directory.path().join("profile")])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let found = Command::new("chromium").arg("--version").output();
        assert!(
            found.is_ok_and(|found| found.status.success()),
            "there is no chromium: `cargo xtask setup` installs it"
        );
        let child = command.spawn().unwrap();
        let commands = File::options().write(true).open(&input).unwrap();
        let answers = File::open(&output).unwrap();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0) {
                let Ok(message) = message else { return };
                let message = serde_json::from_slice(&message).expect("JSON from the browser");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            _directory: directory,
            commands,
            messages,
            session: String::new(),
            last: 0,
            requests: Vec::new(),
            complaints: Vec::new(),
        };
        let page = browser.does("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.does("Target.attachToTarget", attached);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Network", "Log", "Performance"] {
            browser.does(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Performs a command.
    pub(crate) fn does(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        write!(self.commands, "{command}\0").unwrap();
        self.commands.flush().unwrap();
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            let message = message.unwrap_or_else(|_| panic!("no answer to {method}"));
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.observe(&message);
        }
    }

    fn observe(&mut self, message: &Value) {
        let of = &message["params"];
        match message["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let url = of["request"]["url"].as_str().unwrap_or_default();
                self.requests.push(url.to_owned());
            }
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(of["exceptionDetails"].to_string());
            }
            Some("Log.entryAdded") => self.complaints.push(of["entry"].to_string()),
            _ => {}
        }
    }

    /// What an expression is in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let result = self.does("Runtime.evaluate", parameters);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(&format!("Boolean({expression})")) != json!(true) {
            let text = self.value("document.body?.innerText.slice(0, 2000)");
            let complaints = &self.complaints;
            assert!(
                begun.elapsed() < PATIENCE,
                "never: {expression}\n{complaints:#?}\n{text}"
            );
            // It is the page that has to get on: it is asked again once it has drawn.
            self.value("new Promise((done) => setTimeout(done, 50))");
        }
    }

    /// Opens an address, and waits until it is there.
    pub(crate) fn open(&mut self, url: &str) {
        self.does("Page.navigate", json!({ "url": url }));
        self.until(&format!(
            "document.readyState === 'complete' && location.href === '{url}'"
        ));
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str) {
        let text = if key.len() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.does("Input.dispatchKeyEvent", event);
        }
    }

    /// So large a window, and what the system prefers.
    pub(crate) fn looks(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.does("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.does(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
    }

    /// Bytes of JavaScript's heap that are in use, after what is not has been collected.
    pub(crate) fn heap(&mut self) -> u64 {
        self.does("HeapProfiler.collectGarbage", json!({}));
        let metrics = self.does("Performance.getMetrics", json!({}));
        let metrics = metrics["metrics"].as_array().unwrap();
        let used = metrics
            .iter()
            .find(|metric| metric["name"] == "JSHeapUsedSize");
        used.unwrap()["value"].as_f64().unwrap() as u64
    }

    /// A picture of the window, for people, if `WEIR_PICTURES` names a directory.
    pub(crate) fn picture(&mut self, name: &str) {
        let Ok(directory) = std::env::var("WEIR_PICTURES") else {
            return;
        };
        let picture = self.does("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = base64(picture["data"].as_str().unwrap());
        std::fs::write(format!("{directory}/{name}.png"), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').collect();
    let groups = digits.chunks(4).flat_map(|group| {
        let bits = group
            .iter()
            .fold(0, |bits, digit| bits << 6 | value(*digit));
        let bits = bits << (6 * (4 - group.len()));
        bits.to_be_bytes().into_iter().skip(1).take(group.len() - 1)
    });
    groups.collect()
}

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

/// Far longer than anything takes, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(240);

/// From one question whether something has happened to the next.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);

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
        let done = self.tried(method, parameters);
        done.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Performs a command, which the browser may refuse.
    fn tried(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
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
                if message["error"].is_null() {
                    return Ok(message["result"].clone());
                }
                return Err(message["error"].clone());
            }
            self.observe(&message);
        }
    }

    /// Takes in what the browser tells, for so long.
    fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.messages.recv_timeout(left) {
                Ok(message) => self.observe(&message),
                Err(_) => return,
            }
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

    /// What an expression is in the page, which must not go away meanwhile.
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

    /// Waits until an expression is true, in this page or in one that comes after it.
    ///
    /// The page itself is never waited for: a promise in a page that goes away is kept by nobody. A
    /// question that falls between two pages is refused, and one that comes too early may find
    /// nothing to read; both are asked again.
    pub(crate) fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        let question = json!({ "expression": format!("Boolean({expression})") });
        loop {
            let answer = self.tried("Runtime.evaluate", question.clone());
            if answer
                .as_ref()
                .is_ok_and(|answer| answer["result"]["value"] == true)
            {
                return;
            }
            if begun.elapsed() > PATIENCE {
                let text = json!({ "expression": "document.body?.innerText.slice(0, 2000)" });
                let text = self.tried("Runtime.evaluate", text);
                let complaints = &self.complaints;
                panic!("never: {expression}\n{answer:?}\n{complaints:#?}\n{text:?}");
            }
            self.listen(BETWEEN_QUESTIONS);
        }
    }

    /// Waits until a page that stays has been laid out and painted anew.
    pub(crate) fn painted(&mut self) {
        self.value(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))",
        );
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
            if key == "Escape" {
                // The browser itself listens to it, by its number.
                event["windowsVirtualKeyCode"] = json!(27);
            }
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
        // An empty page has its own idea of how wide a telephone is.
        self.until(&format!(
            "innerWidth === {width} || location.protocol === 'about:'"
        ));
        self.painted();
    }

    /// Taps or clicks what a selector finds, in its middle.
    pub(crate) fn click(&mut self, selector: &str) {
        let selector = json!(selector);
        let place = self.value(&format!(
            "(() => {{ const at = document.querySelector({selector}).getBoundingClientRect(); \
             return [at.x + at.width / 2, at.y + at.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            self.does(
                "Input.dispatchMouseEvent",
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 }),
            );
        }
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

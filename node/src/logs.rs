//! Logs on standard error, as `RUST_LOG` says, and traces beside them in builds that have them.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Begins with logs. To be called once.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let text = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_filter(filter);
    let subscriber = tracing_subscriber::registry();
    #[cfg(feature = "otlp")]
    let subscriber = subscriber.with(crate::traces::layer());
    subscriber.with(text).init();
}

//! `weir top`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tonic::Status;
use weir_proto::admin::v1;

use super::ask;
use crate::{
    cli::{self, Cli},
    client::{Client, ClientError},
    top::{self, Look, Outcome, Screen},
    view::Overview,
};

/// Key strokes that wait. Beyond it the terminal keeps them.
const EVENTS: usize = 64;
/// Sources that a line of JSON names.
const SOURCES: u32 = 20;

/// Shows the fleet until somebody quits; or prints a line for each tick.
pub(super) fn run(cli: &Cli, arguments: &cli::Top) -> anyhow::Result<ExitCode> {
    if cli.json {
        return ask(cli, async |client| lines(client, arguments).await);
    }
    ask(cli, async |client| {
        let look = Look::of_environment();
        let pause = match arguments.flat_out {
            true => Duration::ZERO,
            false => arguments.interval,
        };
        let screen = Screen::new(look, pause, arguments.limit.clone());
        let mut terminal = ratatui::try_init().context("this is no terminal; try --json")?;
        let shown = show(&mut terminal, client, screen, arguments.ticks).await;
        ratatui::restore();
        shown
    })
}

async fn overview(mut client: Client, request: v1::OverviewRequest) -> Result<Overview, Status> {
    let reply = client.overview(request).await?;
    Ok(Overview::from(reply.into_inner()))
}

/// A tick that has no answer ends it: whoever reads lines has to know.
async fn lines(client: Client, arguments: &cli::Top) -> anyhow::Result<ExitCode> {
    let mut ticks = interval(arguments.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let request = v1::OverviewRequest {
        limit: arguments.limit.clone().unwrap_or_default(),
        node: String::new(),
        top: SOURCES,
    };
    let mut output = io::stdout();
    let mut left = arguments.ticks;
    while left != Some(0) {
        ticks.tick().await;
        let overview = overview(client.clone(), request.clone()).await;
        let overview = overview.map_err(ClientError::from)?;
        let is_named = |name: &String| {
            overview
                .limits
                .iter()
                .any(|state| state.limit.name == *name)
        };
        if let Some(name) = arguments.limit.as_ref().filter(|name| !is_named(name)) {
            anyhow::bail!("there is no limit \"{name}\" in force; `weir limits` names them all");
        }
        let line = serde_json::to_string(&overview).context("a reply that JSON cannot hold")?;
        // Whoever reads may go away: that is how it ends.
        if writeln!(output, "{line}")
            .and_then(|()| output.flush())
            .is_err()
        {
            break;
        }
        left = left.map(|left| left - 1);
    }
    Ok(ExitCode::SUCCESS)
}

/// A question that is on its way, and whether its answer is a tick.
type Asked = (JoinHandle<Result<Overview, Status>>, bool);

async fn show(
    terminal: &mut ratatui::DefaultTerminal,
    client: Client,
    mut screen: Screen,
    ticks: Option<u64>,
) -> anyhow::Result<ExitCode> {
    let mut events = events();
    // Whoever ends it from outside gets the terminal back as it was.
    let mut ended = signal(SignalKind::terminate()).context("signals cannot be waited for")?;
    let mut left = ticks;
    let mut asked: Option<Asked> = None;
    let mut answered = v1::OverviewRequest::default();
    let mut next = Instant::now();
    loop {
        terminal
            .draw(|frame| top::draw(&screen, frame))
            .context("the terminal cannot be drawn on")?;
        if left == Some(0) {
            return Ok(ExitCode::SUCCESS);
        }
        // One question at a time: at once if the operator looks at something else.
        if asked.is_none() {
            let due = screen.interval().filter(|_| Instant::now() >= next);
            if due.is_some() || screen.wants_another_than(&answered) {
                answered = screen.wants();
                let question = overview(client.clone(), answered.clone());
                asked = Some((tokio::spawn(question), due.is_some()));
            }
            if let Some(pause) = due {
                next = Instant::now() + pause;
            }
        }
        tokio::select! {
            event = events.recv() => match handle(event, &mut screen) {
                Outcome::Quit => return Ok(ExitCode::SUCCESS),
                Outcome::Redraw => terminal.clear().context("the terminal cannot be cleared")?,
                Outcome::Draw | Outcome::Nothing => {}
            },
            (answer, is_tick) = answer(&mut asked) => {
                match answer {
                    Ok(overview) => screen.observe(overview, is_tick),
                    Err(status) => screen.fail(ClientError::from(status).to_string()),
                }
                left = left.map(|left| left - u64::from(is_tick));
            }
            _ = ended.recv() => return Ok(ExitCode::SUCCESS),
            () = sleep_until(next), if screen.interval().is_some() && asked.is_none() => {}
        }
    }
}

fn handle(event: Option<Event>, screen: &mut Screen) -> Outcome {
    match event {
        // The terminal is gone.
        None => Outcome::Quit,
        Some(Event::Key(key)) => screen.press(key),
        Some(Event::Resize(..)) => Outcome::Draw,
        Some(_) => Outcome::Nothing,
    }
}

/// The answer, once there is one; never if nothing was asked.
async fn answer(asked: &mut Option<Asked>) -> (Result<Overview, Status>, bool) {
    let Some((question, is_tick)) = asked else {
        return std::future::pending().await;
    };
    let answer = question.await;
    let is_tick = *is_tick;
    *asked = None;
    let answer = answer.unwrap_or_else(|error| Err(Status::internal(error.to_string())));
    (answer, is_tick)
}

/// What is typed, read by a thread that ends with the process.
fn events() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(EVENTS);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    receiver
}

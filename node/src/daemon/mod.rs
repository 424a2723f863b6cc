//! The daemon: one loop that owns everything, and turns ticks, messages, ZooKeeper's events and
//! operators' questions into calls of what it owns. Nothing here waits for a peer.

mod alone;
mod apply;
mod continuity;
mod coordination;
mod enforcement;
mod explain;
mod exposition;
mod history;
mod hot;
mod membership;
mod memory;
mod metrics;
mod observation;
mod overview;
mod past;
mod rates;
mod ticks;
mod view;

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::info;
use weir_coord::{
    embedded::EMBEDDED_TERM,
    fleet::Notice,
    grpc::Inbound,
    trial::Countdown,
    zookeeper::{Event, Events},
};
use weir_model::{
    Incarnation, file,
    message::{FromNode, ToNode},
};
use weir_proto::admin::v1;

pub use coordination::Coordination;
pub use enforcement::Enforcement;
pub use memory::{Memory, MemoryError};
pub use ticks::Ticks;
pub use view::Facts;

use crate::{
    attachment::{Attachments, Lost},
    dataplane,
    serve::{Answer, Leader, Question},
};
use continuity::Continuity;
use metrics::{Snapshot, TickTimes};
use past::Past;
use view::View;

/// A host alone needs no number for its lives: its leader ends with it.
const EMBEDDED_INCARNATION: Incarnation = Incarnation(1);
/// How often interfaces are looked at, and what could not be done is tried again: with the next tick.
const CHECK: Duration = Duration::from_secs(1);

/// The daemon.
pub struct Daemon {
    facts: Facts,
    enforcement: Enforcement,
    coordination: Coordination,
    attachments: Attachments,
    /// A change on a host alone that waits to be confirmed.
    own_trial: Option<Countdown>,
    /// When interfaces were looked at last.
    checked: Instant,
    ticks: TickTimes,
    continuity: Continuity,
    past: Past,
}

/// What comes from outside.
pub struct Inputs {
    /// When it is time to say something.
    pub ticks: Ticks,
    /// From ZooKeeper; `None` with the embedded coordinator.
    pub events: Option<Events>,
    /// From the nodes that are attached to this one; `None` with the embedded coordinator.
    pub inbound: Option<Inbound>,
    /// From those who serve.
    pub questions: mpsc::Receiver<Question>,
}

/// What happened.
enum Happening {
    Tick,
    Event(Event),
    FromNode(FromNode),
    ToNode(ToNode),
    Question(Question),
}

impl Daemon {
    /// Puts the parts together. If a policy is remembered it is enforced already.
    #[must_use]
    pub fn new(
        facts: Facts,
        enforcement: Enforcement,
        coordination: Coordination,
        attachments: Attachments,
    ) -> Self {
        let ticks = TickTimes::default();
        let continuity = Continuity::new(facts.tick);
        let mut daemon = Self {
            facts,
            enforcement,
            coordination,
            attachments,
            own_trial: None,
            checked: Instant::now(),
            ticks,
            continuity,
            past: Past::default(),
        };
        if matches!(daemon.coordination, Coordination::Embedded { .. }) {
            daemon.enforcement.set_alone();
            daemon
                .enforcement
                .begin_life(EMBEDDED_INCARNATION, EMBEDDED_TERM, Duration::ZERO);
            daemon.resume_trial();
        }
        daemon.remember_policy();
        daemon
    }

    /// What this host remembers is what it would lead by, until ZooKeeper says what is in force.
    fn remember_policy(&mut self) {
        if let Some((version, policy)) = self.enforcement.policy() {
            let (version, policy) = (*version, policy.clone());
            let remembered = self.enforcement.remembered_policy();
            if let (Some(fleet), Some((version, document))) =
                (self.coordination.fleet(), remembered)
            {
                fleet.keeper().remember(version, &document);
            }
            self.coordination
                .set_policy(version, policy, dataplane::now());
        }
    }

    /// Runs until `stop` is ready. Enforcement goes on in the kernel afterwards.
    ///
    /// # Errors
    ///
    /// [`Lost`] if an interface is gone, or its program is no longer ours.
    pub async fn run(
        &mut self,
        inputs: &mut Inputs,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Lost> {
        tokio::pin!(stop);
        loop {
            let happening = tokio::select! {
                biased;
                () = &mut stop => {
                    self.enforcement.stop_looking();
                    return Ok(());
                }
                () = inputs.ticks.next() => Happening::Tick,
                Some(event) = next_event(&mut inputs.events) => Happening::Event(event),
                Some(message) = next_inbound(&mut inputs.inbound) => Happening::FromNode(message),
                Some(message) = next_message(&mut self.coordination) => Happening::ToNode(message),
                Some(question) = inputs.questions.recv() => Happening::Question(question),
            };
            self.handle(happening)?;
        }
    }

    fn handle(&mut self, happening: Happening) -> Result<(), Lost> {
        let now = dataplane::now();
        match happening {
            Happening::Tick => {
                self.tick();
                if self.checked.elapsed() >= CHECK {
                    self.checked = Instant::now();
                    self.enforcement.catch_up();
                    self.attachments.check()?;
                }
            }
            Happening::Event(event) => {
                if let Coordination::Fleet(fleet) = &mut self.coordination
                    && let Some(notice) = fleet.observe(event, now)
                {
                    self.notice(notice);
                }
            }
            Happening::FromNode(message) => {
                if let Coordination::Fleet(fleet) = &mut self.coordination {
                    fleet.hear(message, now);
                }
            }
            Happening::ToNode(message) => self.receive(message),
            Happening::Question(question) => self.answer(question),
        }
        while let Some(message) = self.coordination.poll_message() {
            self.receive(message);
        }
        Ok(())
    }

    fn tick(&mut self) {
        let start = Instant::now();
        if self.enforcement.retry_policy() {
            self.policy_changed();
        }
        let now = dataplane::now();
        if let Some(report) = self.enforcement.report() {
            self.coordination.send(report, now);
        }
        self.coordination.tick(now);
        self.attend_to_trial(now);
        self.continuity.leased(self.enforcement.has_grants(now));
        self.enforcement.look_around();
        self.past.tick(&self.enforcement, now);
        self.ticks.observe(start.elapsed());
    }

    fn receive(&mut self, message: ToNode) {
        if let Coordination::Fleet(fleet) = &mut self.coordination {
            fleet.hear_leader(&message, dataplane::now());
        }
        if let ToNode::Commit(commit) = &message {
            self.continuity.committed(commit.position, dataplane::now());
        }
        let coordination = &mut self.coordination;
        self.enforcement
            .receive(message, |reply| coordination.send(reply, dataplane::now()));
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::BeginLife {
                incarnation,
                term,
                abstention,
            } => {
                let term = self.enforcement.know_term(term);
                self.enforcement.begin_life(incarnation, term, abstention);
            }
            Notice::Promise(term) => {
                let term = self.enforcement.know_term(term);
                self.enforcement.promise(term);
            }
            Notice::Member(member) => self.enforcement.set_member(member.as_ref()),
            Notice::Policy { version, document } => {
                info!(%version, "another policy is in force in the fleet");
                self.enforcement.follow_policy(version, &document);
                if let (Coordination::Fleet(fleet), Ok(policy)) =
                    (&mut self.coordination, file::parse(&document))
                {
                    fleet.set_policy(version, policy, dataplane::now());
                }
            }
            Notice::NextPolicy { version, document } => {
                info!(%version, "another policy is to come into force");
                let Some(policy) = self.enforcement.make_ready(version, &document) else {
                    return;
                };
                if let Coordination::Fleet(fleet) = &mut self.coordination {
                    fleet.prepare_policy(version, policy, dataplane::now());
                }
            }
        }
    }

    /// A host alone goes by what it enforces; a fleet by what ZooKeeper says.
    fn policy_changed(&mut self) {
        if self.coordination.fleet().is_some() {
            return;
        }
        if let Some((version, policy)) = self.enforcement.policy() {
            self.coordination
                .set_policy(*version, policy.clone(), dataplane::now());
        }
    }

    fn view(&self) -> View<'_> {
        View {
            facts: &self.facts,
            enforcement: &self.enforcement,
            coordination: &self.coordination,
            past: &self.past,
        }
    }

    fn answer(&mut self, question: Question) {
        // Whoever asked may have gone away meanwhile, which is no concern of ours.
        match question {
            Question::Apply(request, answer) => self.apply(request, answer),
            Question::Confirm(request, answer) => self.confirm(request, answer),
            Question::Rollback(request, answer) => self.rollback(request, answer),
            Question::History(answer) => self.history(answer),
            Question::Drain(request, answer) => self.drain(request, answer),
            Question::Remove(request, answer) => self.remove(request, answer),
            Question::Status(answer) => {
                let status = v1::StatusReply {
                    trial: self.trial(),
                    ..self.view().status()
                };
                let _ = answer.send(self.as_known_here(status));
            }
            Question::Limits { top, answer } => {
                let _ = answer.send(self.as_known_here(self.view().limits(top)));
            }
            Question::Overview(request, answer) => {
                let overview = self.view().overview(&request, self.trial());
                let _ = answer.send(self.as_known_here(overview));
            }
            Question::Explain(address, answer) => {
                let _ = answer.send(self.view().explain(address));
            }
            Question::Demand(answer) => {
                let _ = answer.send(self.view().demand());
            }
            Question::TimeLine(limit, answer) => {
                let _ = answer.send(self.view().time_line(&limit));
            }
            Question::Nodes(answer) => {
                let _ = answer.send(self.as_known_here(self.view().nodes()));
            }
            Question::Alive(answer) => {
                let _ = answer.send(());
            }
            Question::Ready(answer) => {
                let _ = answer.send(self.readiness());
            }
            Question::Metrics(answer) => {
                let snapshot = Snapshot::take(
                    &self.view(),
                    &self.attachments,
                    (&self.ticks, self.continuity.counts()),
                );
                tokio::task::spawn_blocking(|| {
                    let _ = answer.send(snapshot.text());
                });
            }
        }
    }

    /// Attached it is: a daemon that is not ends. A host alone grants itself what it has.
    fn readiness(&self) -> Result<(), &'static str> {
        if self.enforcement.policy().is_none() {
            return Err("no policy is in force\n");
        }
        match self.enforcement.has_grants(dataplane::now()) {
            Some(false) => Err("it is on its floors: no leader grants it its part\n"),
            Some(true) | None => Ok(()),
        }
    }

    /// A leader knows all; any other node knows itself, and who to ask.
    fn as_known_here<T>(&self, own: T) -> Answer<T> {
        match self.leader_elsewhere() {
            Some(leader) => Answer::Partly(own, leader),
            None => Answer::Here(own),
        }
    }

    /// The leader, if it is another node and known.
    fn leader_elsewhere(&self) -> Option<Leader> {
        let fleet = self.coordination.fleet()?;
        let term = fleet.term()?;
        let leader = term.leader?;
        (fleet.leader().is_none() && leader != self.facts.node).then(|| Leader {
            node: leader,
            address: term.address.clone(),
        })
    }
}

async fn next_event(events: &mut Option<Events>) -> Option<Event> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn next_inbound(inbound: &mut Option<Inbound>) -> Option<FromNode> {
    match inbound {
        Some(inbound) => inbound.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_message(coordination: &mut Coordination) -> Option<ToNode> {
    match coordination {
        Coordination::Fleet(fleet) => fleet.receive().await,
        Coordination::Embedded { .. } => std::future::pending().await,
    }
}

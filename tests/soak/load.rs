//! The requests of one client, and the check of their answers. A person belongs to one client, which sends one request after
//! the other, so what it knows of the person has an order.

use std::{collections::BTreeSet, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    history::{Expected, Fact, Life, Person, Shot, Token, Told},
    random::{DIMENSION, Random, embedding},
    stage::Shared,
};

/// People of one client who are not erased.
const PEOPLE_MAX: usize = 24;
/// An enroll without a request id is repeated for so long: the server recognises it for a minute.
const REPEAT: Duration = Duration::from_secs(30);
/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// No start of a server.
const NOBODY: u64 = 0;

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Done(Value),
    /// The server says that nothing happened.
    Refused(StatusCode, String),
    /// No answer, or one that says so.
    Unknown(String),
    /// No server listened.
    NotSent,
}

/// An answer, and the start of the server that gave it.
pub(crate) struct Heard {
    pub(crate) answer: Answer,
    pub(crate) since: u64,
}

pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) people: Vec<Person>,
    collection: String,
    name: String,
    random: Random,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, collection: &str, name: String, seed: u64) -> Self {
        Self { shared, people: Vec::new(), collection: collection.to_owned(), name, random: Random::new(seed) }
    }

    /// Sends requests until it is told to stop.
    pub(crate) async fn work(mut self) -> Self {
        while !self.shared.is_stopping.load(Relaxed) {
            let alive = self.people.iter().filter(|person| !person.is_erased()).count();
            let choice = self.random.below(100);
            if self.people.is_empty() || (choice < 30 && alive < PEOPLE_MAX) {
                self.people.push(Person::new(format!("{}-{}", self.name, self.people.len())));
                let at = self.people.len() - 1;
                self.enroll(at).await;
                continue;
            }
            let at = self.random.index(self.people.len());
            match choice {
                0..38 => self.enroll(at).await,
                38..53 => self.look(at).await,
                53..76 => self.search(at).await,
                76..84 => self.verify(at).await,
                84..88 => self.remove_template(at).await,
                88..92 => self.enroll_wrong(at).await,
                _ => self.erase(at).await,
            }
        }
        self
    }

    fn path(&self, at: usize) -> String {
        format!("/v1/collections/{}/identities/{}", self.collection, self.people[at].id)
    }

    fn note(&mut self, at: usize, what: &str) {
        let now = self.shared.began.elapsed();
        self.people[at].note(now, what);
    }

    fn violation(&self, at: usize, what: &str) {
        self.shared.violation(&format!("{what}: {}", self.people[at].story()));
    }

    async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>, key: Option<&str>) -> Heard {
        let slot = self.random.index(self.shared.servers.len());
        let heard = self.shared.ask(slot, method, path, body, key).await;
        if matches!(heard.answer, Answer::NotSent) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        heard
    }

    /// Enrolls a new embedding, and repeats what had no answer.
    async fn enroll(&mut self, at: usize) {
        if !matches!(self.people[at].life, Life::Alive) {
            return;
        }
        let signs = self.random.bits();
        let key = self.random.percent(50).then(|| format!("{}-{signs:x}", self.name));
        let body = json!({"samples": [sample(&embedding(signs))], "labels": {"client": self.name}});
        let path = format!("{}:enroll", self.path(at));
        self.people[at].shots.push(Shot { signs, fact: Fact::Refused });
        let shot = self.people[at].shots.len() - 1;
        let began = tokio::time::Instant::now();
        let begins_at = self.shared.tick();
        for _ in 0..5 {
            let heard = self.ask(Method::POST, &path, Some(&body), key.as_deref()).await;
            self.note(at, &format!("enroll {signs:016x} key {key:?} by {}: {}", heard.since, short(&heard.answer)));
            match heard.answer {
                Answer::Done(answer) => {
                    // A repeat may be answered from the database, before the server has read what another one wrote.
                    let is_repeat = matches!(self.people[at].shots[shot].fact, Fact::Unknown);
                    let told = Told { at: self.shared.tick(), by: if is_repeat { NOBODY } else { heard.since } };
                    let template = answer["templates"][0]["name"].as_str().unwrap_or_default().to_owned();
                    let token = answer["consistencyToken"].as_str().unwrap_or_default().to_owned();
                    self.shared.remember_token(begins_at, &token);
                    self.people[at].token = Some(token);
                    self.people[at].shots[shot].fact = Fact::Stored { template, told };
                    return;
                }
                Answer::Unknown(_) => self.people[at].shots[shot].fact = Fact::Unknown,
                Answer::Refused(..) | Answer::NotSent => {}
            }
            let is_recognised = key.is_some() || began.elapsed() < REPEAT;
            if !is_recognised || self.shared.is_stopping.load(Relaxed) || self.random.percent(15) {
                return;
            }
        }
    }

    /// Sends an embedding that no space has.
    async fn enroll_wrong(&mut self, at: usize) {
        let body = json!({"samples": [sample(&vec![0.5; DIMENSION / 2])]});
        let path = format!("{}:enroll", self.path(at));
        let heard = self.ask(Method::POST, &path, Some(&body), None).await;
        if matches!(heard.answer, Answer::Done(_)) {
            self.violation(at, "an embedding of another length was taken");
        }
    }

    /// Lists the templates of a person.
    async fn look(&mut self, at: usize) {
        let path = format!("{}/templates?pageSize=1000", self.path(at));
        let heard = self.ask(Method::GET, &path, None, None).await;
        self.check_list(at, &heard);
    }

    /// Whether it was an answer.
    fn check_list(&mut self, at: usize, heard: &Heard) -> bool {
        let listed: Option<BTreeSet<String>> = match &heard.answer {
            Answer::Done(page) => {
                let templates = page["templates"].as_array().cloned().unwrap_or_default();
                Some(templates.iter().filter_map(|template| template["name"].as_str().map(str::to_owned)).collect())
            }
            Answer::Refused(StatusCode::NOT_FOUND, _) => None,
            _ => return false,
        };
        self.note(at, &format!("listed by {}: {listed:?}", heard.since));
        if let Some(wrong) = self.people[at].wrong_list(listed.as_ref()) {
            self.violation(at, &wrong);
        }
        true
    }

    fn token(&mut self, at: usize) -> (Token, Option<String>) {
        match (self.random.below(3), &self.people[at].token, self.shared.latest_token()) {
            (0, Some(own), _) => (Token::Own, Some(own.clone())),
            (1, _, Some((began, token))) => (Token::After(began), Some(token)),
            _ => (Token::None, None),
        }
    }

    async fn search(&mut self, at: usize) {
        let (token, text) = self.token(at);
        let Some(shot) = self.any_shot(at) else { return };
        let mut body = json!({"samples": [sample(&embedding(shot.signs))], "topK": 3});
        body["consistencyToken"] = json!(text.unwrap_or_default());
        let path = format!("/v1/collections/{}/identities:search", self.collection);
        let heard = self.ask(Method::POST, &path, Some(&body), None).await;
        let Answer::Done(answer) = heard.answer else { return };
        let name = format!("collections/{}/identities/{}", self.collection, self.people[at].id);
        let candidates = answer["candidates"].as_array().cloned().unwrap_or_default();
        let similarity = candidates.iter().find(|candidate| candidate["identity"] == name.as_str());
        let similarity = similarity.and_then(|candidate| candidate["similarity"].as_f64());
        self.judge(at, &shot, similarity, (heard.since, token, "search"));
    }

    async fn verify(&mut self, at: usize) {
        let (token, text) = self.token(at);
        let Some(shot) = self.any_shot(at) else { return };
        let mut body = json!({"samples": [sample(&embedding(shot.signs))]});
        body["consistencyToken"] = json!(text.unwrap_or_default());
        let path = format!("{}:verify", self.path(at));
        let heard = self.ask(Method::POST, &path, Some(&body), None).await;
        let similarity = match heard.answer {
            Answer::Done(answer) => answer["similarity"].as_f64(),
            Answer::Refused(StatusCode::NOT_FOUND, _) => None,
            _ => return,
        };
        self.judge(at, &shot, similarity, (heard.since, token, "verify"));
    }

    /// Compares the similarity of a person with what is known.
    fn judge(&mut self, at: usize, shot: &Shot, similarity: Option<f64>, (since, token, how): (u64, Token, &str)) {
        self.note(at, &format!("{how} {:016x} by {since} with {token:?}: {similarity:?}", shot.signs));
        let wrong = match self.people[at].expected(shot, since, token) {
            Expected::Found if similarity.is_none_or(|similarity| similarity < 0.999) => "acknowledged, and not found",
            Expected::Absent if similarity.is_some() => "erased or refused, and found",
            _ => return,
        };
        self.violation(at, wrong);
    }

    fn any_shot(&mut self, at: usize) -> Option<Shot> {
        let length = self.people[at].shots.len();
        (length > 0).then(|| self.people[at].shots[self.random.index(length)].clone())
    }

    /// Deletes one template.
    async fn remove_template(&mut self, at: usize) {
        let length = self.people[at].shots.len();
        if length == 0 || !matches!(self.people[at].life, Life::Alive) {
            return;
        }
        let shot = self.random.index(length);
        let (Fact::Stored { template, .. } | Fact::PerhapsRemoved { template }) =
            self.people[at].shots[shot].fact.clone()
        else {
            return;
        };
        let heard = self.ask(Method::DELETE, &format!("/v1/{template}"), None, None).await;
        self.note(at, &format!("delete {template} by {}: {}", heard.since, short(&heard.answer)));
        let fact = match heard.answer {
            Answer::Done(answer) => {
                self.shared.erased(self.people[at].shots[shot].signs, &answer, &self.people[at].id);
                Fact::Removed { template }
            }
            Answer::Refused(StatusCode::NOT_FOUND, _)
                if matches!(self.people[at].shots[shot].fact, Fact::PerhapsRemoved { .. }) =>
            {
                Fact::Removed { template }
            }
            Answer::Refused(StatusCode::NOT_FOUND, _) => {
                return self.violation(at, "a template was acknowledged, and cannot be deleted");
            }
            Answer::Unknown(_) => Fact::PerhapsRemoved { template },
            Answer::Refused(..) | Answer::NotSent => return,
        };
        self.people[at].shots[shot].fact = fact;
    }

    /// Deletes a person.
    async fn erase(&mut self, at: usize) {
        if self.people[at].is_erased() {
            return;
        }
        let heard = self.ask(Method::DELETE, &self.path(at), None, None).await;
        self.note(at, &format!("erase by {}: {}", heard.since, short(&heard.answer)));
        match heard.answer {
            Answer::Done(answer) => {
                for shot in &self.people[at].shots {
                    self.shared.erased(shot.signs, &answer, &self.people[at].id);
                }
                self.people[at].life = Life::Erased(Told { at: self.shared.tick(), by: heard.since });
            }
            Answer::Refused(StatusCode::NOT_FOUND, _) => {
                if let Some(wrong) = self.people[at].wrong_list(None) {
                    self.violation(at, &wrong);
                }
                if matches!(self.people[at].life, Life::PerhapsErased) {
                    self.people[at].life = Life::Erased(Told { at: self.shared.tick(), by: NOBODY });
                }
            }
            Answer::Unknown(_) => self.people[at].life = Life::PerhapsErased,
            Answer::Refused(..) | Answer::NotSent => {}
        }
    }

    /// Asks a server that works for everything that this client knows.
    pub(crate) async fn check_all(&mut self, slot: usize) {
        for at in 0..self.people.len() {
            let path = format!("{}/templates?pageSize=1000", self.path(at));
            let until = tokio::time::Instant::now() + 2 * PATIENCE;
            loop {
                let heard = self.shared.ask(slot, Method::GET, &path, None, None).await;
                if self.check_list(at, &heard) {
                    break;
                }
                if tokio::time::Instant::now() > until {
                    return self.violation(at, "the server does not answer although nothing is wrong any more");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.search(at).await;
        }
    }
}

impl Shared {
    /// Sends a request to the server of a slot.
    pub(crate) async fn ask(
        &self,
        slot: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Heard {
        let is_write = method != Method::GET && !path.ends_with(":search") && !path.ends_with(":verify");
        let server = self.servers[slot].lock().clone();
        let mut request = self.client.request(method, format!("{}{path}", server.http)).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = match request.send().await {
            Err(error) if error.is_connect() => Answer::NotSent,
            Err(error) => Answer::Unknown(error.to_string()),
            Ok(response) => read(response).await,
        };
        self.count(is_write, &answer);
        // Another server may have got its port meanwhile: what was said is true, but nobody knows by whom.
        let since = if self.servers[slot].lock().since == server.since { server.since } else { NOBODY };
        if since != server.since && !is_write {
            return Heard { answer: Answer::NotSent, since };
        }
        Heard { answer, since }
    }
}

async fn read(response: reqwest::Response) -> Answer {
    let status = response.status();
    let Ok(bytes) = response.bytes().await else { return Answer::Unknown("the answer broke off".to_owned()) };
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let code = json["code"].as_str().unwrap_or_default().to_owned();
    match status {
        status if status.is_success() => Answer::Done(json),
        StatusCode::GATEWAY_TIMEOUT => Answer::Unknown(code),
        _ if code == "OUTCOME_UNKNOWN" => Answer::Unknown(code),
        status => Answer::Refused(status, code),
    }
}

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Done(answer) => match answer["templates"][0]["name"].as_str() {
            Some(template) => template.rsplit('/').next().unwrap_or_default().to_owned(),
            None => format!("done {answer}"),
        },
        Answer::Refused(status, code) => format!("{status} {code}"),
        Answer::Unknown(why) => format!("unknown: {why}"),
        Answer::NotSent => "not sent".to_owned(),
    }
}

fn sample(values: &[f32]) -> Value {
    json!({"modality": "face", "embedding": {"model": "soak", "values": values}})
}

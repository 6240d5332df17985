//! The program under a benchmark as a child process, and the times of requests to it.
#![allow(dead_code, reason = "a benchmark uses a part of it")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Names and paths of the programs to compare: this build, or those of `SEMBLANCE_BENCH_SERVERS=NAME=PATH,...`.
#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
pub(crate) fn servers() -> Vec<(String, PathBuf)> {
    let own = format!("this build={}", env!("CARGO_BIN_EXE_semblance"));
    let servers = std::env::var("SEMBLANCE_BENCH_SERVERS").unwrap_or(own);
    servers
        .split(',')
        .map(|server| server.split_once('=').expect("NAME=PATH"))
        .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        .collect()
}

/// Seconds of many requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(pub(crate) Vec<f64>);

impl Latencies {
    pub(crate) fn at(&self, percent: usize) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[(sorted.len() - 1) * percent / 100]
    }
}

/// Stopped by [`Server::stop`].
pub(crate) struct Server {
    child: Child,
    pub(crate) http: String,
}

impl Server {
    /// Starts a program on an empty data folder.
    pub(crate) fn start(program: &Path, home: &Path, env: &[(&str, &Path)]) -> Self {
        let mut child = Command::new(program)
            .args(["serve", "--no-pull"])
            .env("SEMBLANCE_DATA_DIR", home)
            .env_remove("DATABASE_URL")
            .env("SEMBLANCE_HTTP_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_GRPC_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_LOG", "error")
            .env("SEMBLANCE_ALLOW_LOOPBACK", "true")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let http = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("REST")?.split_whitespace().next()?.to_owned()))
            .expect("it prints its address");
        Self { child, http }
    }

    /// Seconds of processor time of all its threads.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // utime and stime, in ticks of 10 ms.
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number") / 100.0).sum()
    }

    /// Resident memory, in MiB.
    pub(crate) fn memory_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.split_whitespace().next().expect("a number").parse::<f64>().expect("a number") / 1024.0
    }

    pub(crate) fn stop(mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

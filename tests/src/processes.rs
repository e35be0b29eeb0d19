//! The processes below a program, read from /proc, and programs that run beside Lamina.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// The words of its command line, separated by spaces.
    pub command: String,
}

impl Process {
    /// All processes below `root` except zombies, parents before children.
    pub fn below(root: i32) -> Vec<Process> {
        let all: Vec<Process> = fs::read_dir("/proc")
            .expect("/proc can be read")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Process::read)
            .collect();
        let mut found: Vec<Process> = Vec::new();
        let mut parents = vec![root];
        while let Some(parent) = parents.pop() {
            for child in all.iter().filter(|process| process.parent == parent) {
                parents.push(child.pid);
                found.push(child.clone());
            }
        }
        found
    }

    fn read(pid: i32) -> Option<Process> {
        // The file reads "pid (name) state parent ...". The name may contain any character, so parsing starts after the
        // last bracket.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        if state == "Z" {
            return None;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<_> = command.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
        Some(Process { pid, parent, command: words.join(" ").trim().to_owned() })
    }

    /// True if the process still runs. A process with the same number but another command line is another process.
    pub fn is_alive(&self) -> bool {
        Process::read(self.pid).is_some_and(|now| now.command == self.command)
    }

    pub fn signal(&self, signal: i32) {
        send(self.pid, signal);
    }
}

/// Sends `signal`. It is not an error if the process has ended.
#[expect(unsafe_code, reason = "kill(2) has no safe form in std")]
pub(crate) fn send(pid: i32, signal: i32) {
    // SAFETY: kill takes two integers and touches no memory of ours.
    unsafe { libc::kill(pid, signal) };
}

/// A program that a test runs beside Lamina. Dropping it kills it; if the test fails, its log is printed.
#[derive(Debug)]
pub struct Background {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts `command`, whose output and errors go to the new file `log`. `name` is for people.
    pub fn start(name: &'static str, command: &mut Command, log: PathBuf) -> Self {
        let file = fs::File::create(&log).expect("a log can be created");
        let copy = file.try_clone().expect("a descriptor can be duplicated");
        let command = command.stdin(Stdio::null()).stdout(copy).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, log }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It is not an error if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

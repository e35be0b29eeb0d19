//! A queue of lines on disk, so that nothing waits in memory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A file with one record per line. The number of a record is that of its line, from 1. A record that is taken stays in
/// the file, which is deleted with its attempt. The number of the last record taken is not stored: after a restart, the
/// owner of the spool takes the records again.
///
/// Nothing is synced to the disk, because the file must survive this process but not the machine: if that fails, the
/// attempt is lost anyway.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    records: u64,
    bytes: u64,
    taken: u64,
    taken_bytes: u64,
}

impl Spool {
    /// Opens the file or creates it. A last line without a line break, which a killed agent left, is removed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let (mut records, mut bytes) = (0, 0);
        let mut reader = BufReader::new(&mut file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.last() == Some(&b'\n') {
                records += 1;
                bytes += line.len() as u64;
            }
            line.clear();
        }
        file.set_len(bytes)?;
        Ok(Self { file, records, bytes, taken: 0, taken_bytes: 0 })
    }

    /// Appends one record, which must not contain a line break, and returns its number. An error leaves the file
    /// unchanged.
    pub(crate) fn append(&mut self, record: &str) -> io::Result<u64> {
        debug_assert!(!record.contains('\n'));
        let line = format!("{record}\n");
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.records += 1;
        self.bytes += line.len() as u64;
        Ok(self.records)
    }

    /// The first records that are not taken, with their numbers: at most `records` of them and at most `bytes` in
    /// total, but at least one if there is one.
    pub(crate) fn peek(&self, records: usize, bytes: u64) -> io::Result<Vec<(u64, String)>> {
        let mut found = Vec::new();
        let mut size = 0;
        let mut reader = self.reader()?;
        for number in self.taken + 1..=self.records {
            let mut line = String::new();
            size += reader.read_line(&mut line)? as u64;
            if found.len() == records || (size > bytes && !found.is_empty()) {
                break;
            }
            line.pop();
            found.push((number, line));
        }
        Ok(found)
    }

    /// Takes all records up to `number`. Does nothing if they are taken already.
    pub(crate) fn take(&mut self, number: u64) -> io::Result<()> {
        let number = number.min(self.records);
        let mut reader = self.reader()?;
        let mut line = Vec::new();
        let mut bytes = 0;
        for _ in self.taken..number {
            bytes += reader.read_until(b'\n', &mut line)? as u64;
            line.clear();
        }
        drop(reader);
        self.taken_bytes += bytes;
        self.taken = self.taken.max(number);
        Ok(())
    }

    pub(crate) fn last(&self) -> io::Result<Option<String>> {
        self.reader()?.lines().last().transpose()
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// True if there are records after `number`, or, for `None`, records that are not taken.
    pub(crate) fn has_after(&self, number: Option<u64>) -> bool {
        number.unwrap_or(self.taken) < self.records
    }

    /// The size in bytes of the records that are not taken.
    pub(crate) fn waiting(&self) -> u64 {
        self.bytes - self.taken_bytes
    }

    fn reader(&self) -> io::Result<impl BufRead> {
        let mut file = &self.file;
        // The file is in append mode, so this does not change where the next record is written.
        file.seek(SeekFrom::Start(self.taken_bytes))?;
        Ok(BufReader::new(file.take(self.bytes - self.taken_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn numbers(spool: &Spool, records: usize, bytes: u64) -> Vec<u64> {
        spool.peek(records, bytes).unwrap().into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn records_keep_their_numbers_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut spool = Spool::open(&path).unwrap();
        assert_eq!((spool.append("a").unwrap(), spool.append("é").unwrap()), (1, 2));
        spool.take(1).unwrap();
        assert_eq!(spool.peek(10, 100).unwrap(), [(2, "é".to_owned())]);

        let mut spool = Spool::open(&path).unwrap();
        assert_eq!(spool.append("c").unwrap(), 3);
        assert_eq!(numbers(&spool, 10, 100), [1, 2, 3]);
        assert_eq!(spool.last().unwrap().unwrap(), "c");
    }

    #[test]
    fn an_incomplete_last_line_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "whole\nhal").unwrap();
        let mut spool = Spool::open(&path).unwrap();
        assert_eq!(spool.append("next").unwrap(), 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nnext\n");
    }

    #[test]
    fn a_peek_is_limited_by_records_and_bytes_but_returns_at_least_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&folder.path().join("log")).unwrap();
        for record in ["12345", "123", "123", "123"] {
            spool.append(record).unwrap();
        }
        assert_eq!(numbers(&spool, 2, 100), [1, 2]);
        assert_eq!(numbers(&spool, 10, 1), [1]);
        assert_eq!(numbers(&spool, 10, 14), [1, 2, 3]);
        assert_eq!(spool.waiting(), 18);
    }

    #[test]
    fn taking_records_never_goes_back_and_stops_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&folder.path().join("log")).unwrap();
        for record in ["a", "b", "c"] {
            spool.append(record).unwrap();
        }
        spool.take(2).unwrap();
        spool.take(1).unwrap();
        assert_eq!(numbers(&spool, 10, 100), [3]);
        spool.take(99).unwrap();
        assert_eq!((numbers(&spool, 10, 100), spool.waiting(), spool.records()), (vec![], 0, 3));
    }
}

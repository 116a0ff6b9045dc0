//! The time as text: the `Date` line, made once a second, and ISO 8601 with milliseconds, made once for each.
//! Source: RFC 9110 §5.6.7, §6.6.1; H-58; traffic-policy.md §6 (`time.now`).

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// `date: …` with CRLF, as it was when last asked for.
pub(crate) struct DateLine {
    second: u64,
    text: [u8; LENGTH],
}

const LENGTH: usize = b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".len();

impl DateLine {
    pub(crate) fn new() -> Self {
        DateLine { second: u64::MAX, text: [0; LENGTH] }
    }

    pub(crate) fn now(&mut self) -> &[u8] {
        let second =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            self.text = line(second);
        }
        &self.text
    }
}

/// The time as `Date.prototype.toISOString` writes it, as it was when last asked for.
pub(crate) struct IsoTime {
    ms: u128,
    text: [u8; ISO_LENGTH],
}

/// What stands where such a time is to be.
pub(crate) const ISO_PLACE: &[u8; ISO_LENGTH] = b"0000-00-00T00:00:00.000Z";
const ISO_LENGTH: usize = 24;

impl IsoTime {
    pub(crate) fn new() -> Self {
        IsoTime { ms: u128::MAX, text: [0; ISO_LENGTH] }
    }

    pub(crate) fn now(&mut self) -> &[u8; ISO_LENGTH] {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = since.as_millis();
        if ms != self.ms {
            self.ms = ms;
            self.text = iso(since.as_secs(), since.subsec_millis());
        }
        &self.text
    }
}

fn iso(second: u64, ms: u32) -> [u8; ISO_LENGTH] {
    let mut text = *ISO_PLACE;
    let (year, month, day) = civil((second / 86_400) as i64);
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], (second / 3600 % 24) as u32);
    digits(&mut text[14..16], (second / 60 % 60) as u32);
    digits(&mut text[17..19], (second % 60) as u32);
    digits(&mut text[20..23], ms);
    text
}

fn line(second: u64) -> [u8; LENGTH] {
    let mut text = *b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    let days = second / 86_400;
    let (year, month, day) = civil(days as i64);
    text[6..9].copy_from_slice(DAYS[(days % 7) as usize]);
    digits(&mut text[11..13], day);
    text[14..17].copy_from_slice(MONTHS[month as usize - 1]);
    digits(&mut text[18..22], year);
    digits(&mut text[23..25], (second / 3600 % 24) as u32);
    digits(&mut text[26..28], (second / 60 % 60) as u32);
    digits(&mut text[29..31], (second % 60) as u32);
    text
}

fn digits(place: &mut [u8], number: u32) {
    let mut left = number;
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01, by the calendar of 400 years that begin in March.
fn civil(days: i64) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_of_year = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_of_year + 2) / 5 + 1;
    let month = if month_of_year < 10 { month_of_year + 3 } else { month_of_year - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::{iso, line};

    #[test]
    fn h_58_dates_are_as_in_rfc_9110() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_164_799, "Wed, 28 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(
                std::str::from_utf8(&line(second)),
                Ok(format!("date: {text}\r\n").as_str())
            );
        }
    }

    #[test]
    fn times_are_as_javascript_writes_them() {
        for (second, ms, text) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, 7, "2000-02-29T00:00:00.007Z"),
            (1_709_164_799, 999, "2024-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(std::str::from_utf8(&iso(second, ms)), Ok(text));
        }
    }
}

//! Figures as people read them. Pure.

/// A rounded number with a comma after every three digits.
#[must_use]
pub fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number <= -0.5 {
        format!("-{text}")
    } else {
        text
    }
}

/// A bar of so many cells, filled to a part of it, in eighths of a cell. More than the whole fills
/// it.
#[must_use]
pub fn bar(part: f64, cells: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (part.clamp(0.0, 1.0) * cells as f64 * 8.0).round() as usize;
    let mut text: String = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    let blank = cells - text.chars().count();
    text.push_str(&"·".repeat(blank));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_digits() {
        for (number, text) in [
            (0.0, "0"),
            (-0.2, "0"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (29_999.6, "30,000"),
            (1_234_567.0, "1,234,567"),
            (-1_500.0, "-1,500"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn bars_always_have_their_width() {
        assert_eq!(bar(0.5, 4), "██··");
        assert_eq!(bar(0.28, 4), "█▏··");
        for percent in -10..130 {
            assert_eq!(bar(f64::from(percent) / 100.0, 28).chars().count(), 28);
        }
    }
}

//! What things cost, in cents.

/// What the shop sells.
const PRICES: [(&str, u64); 3] = [("rope", 1_250), ("hook", 399), ("windlass", 89_900)];

/// From this sum on, a tenth of it is taken off.
const DISCOUNT_FROM: u64 = 100_000;

/// Most pieces of one thing in a cart.
const MOST: u64 = 10_000;

/// The cart's price in cents, of items such as `rope:2`.
pub fn total<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<u64, String> {
    let mut sum = 0;
    for item in items {
        let (name, count) = item.split_once(':').unwrap_or((item, "1"));
        let (_, price) = PRICES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("we do not sell {name:?}"))?;
        let count: u64 = count.parse().map_err(|_| format!("{count:?} is no number of pieces"))?;
        if count > MOST {
            return Err(format!("{count} pieces are more than the {MOST} we have"));
        }
        sum += price * count;
    }
    Ok(sum - discount(sum))
}

/// Rounded down, to whole cents.
fn discount(sum: u64) -> u64 {
    if sum >= DISCOUNT_FROM { sum / 10 } else { 0 }
}

/// 1250 as `12.50`.
pub fn shown(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cart_adds_up() {
        assert_eq!(total([]), Ok(0));
        assert_eq!(total(["rope"]), Ok(1_250));
        assert_eq!(total(["rope:2", "hook:3"]), Ok(2 * 1_250 + 3 * 399));
        assert_eq!(total(["rope:0"]), Ok(0));
    }

    #[test]
    fn a_large_cart_is_cheaper() {
        assert_eq!(total(["rope:79"]), Ok(98_750));
        assert_eq!(total(["rope:80"]), Ok(90_000));
        assert_eq!(total(["windlass", "rope:8", "hook"]), Ok(90_270));
    }

    #[test]
    fn what_is_not_sold_is_refused() {
        for bad in ["anchor", "rope:x", "rope:-1", "rope:", "rope:10001", ""] {
            assert!(total([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn cents_are_shown_as_money() {
        assert_eq!([0, 5, 1_250, 90_270].map(shown), ["0.00", "0.05", "12.50", "902.70"]);
    }
}

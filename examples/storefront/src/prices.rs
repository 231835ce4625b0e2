//! What a cart costs. Amounts are in cents, so that nothing is lost in rounding.

const PRICES: [(&str, u64); 3] = [("rope", 1250), ("anchor", 8900), ("lantern", 2400)];

/// The total of a cart such as `rope=2&anchor=1`, in cents: three of the same cost a tenth less.
pub fn total(cart: &str) -> Result<u64, String> {
    let mut sum = 0u64;
    for item in cart.split('&').filter(|item| !item.is_empty()) {
        let (name, count) = item.split_once('=').ok_or(format!("{item:?} is not like rope=2"))?;
        let count: u64 = count.parse().map_err(|_| format!("{count:?} is not a number"))?;
        let price = PRICES.iter().find(|(known, _)| *known == name);
        let (_, price) = price.ok_or(format!("we do not sell {name:?}"))?;
        let full = price.checked_mul(count).ok_or("nobody can pay that")?;
        let cost = if count >= 3 { full - full / 10 } else { full };
        sum = sum.checked_add(cost).ok_or("nobody can pay that")?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cart_costs_nothing() {
        assert_eq!(total(""), Ok(0));
    }

    #[test]
    fn items_add_up() {
        assert_eq!(total("rope=2&anchor=1"), Ok(2 * 1250 + 8900));
    }

    #[test]
    fn three_of_the_same_are_cheaper() {
        assert_eq!(total("lantern=3"), Ok(6480));
    }

    #[test]
    fn what_we_do_not_sell_is_refused() {
        assert!(total("cannon=1").is_err());
        assert!(total("rope=many").is_err());
        assert!(total("rope=99999999999999999").is_err());
    }
}

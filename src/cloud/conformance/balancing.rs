fn _todo() {}
pub async fn balancer() {}

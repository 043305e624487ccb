"""Variables of existing models, integrated out of their normal likelihoods."""

// Close codes. Whatever is not here is worth another try.
export const NORMAL = 1000;
export const GOING_AWAY = 1001;
export const ABNORMAL = 1006;
export const BAD_TOKEN = 1008;
export const TRY_LATER = 1013;
export const EXPIRED = 4401;
export const NOT_ALLOWED = 4403;
export const NO_ANSWER = 4408;
export const REVOKED = 4410;
export const TOO_MANY = 4430;
export const ABOUT_THE_TOKEN = [BAD_TOKEN, EXPIRED, REVOKED];
export const FOR_GOOD = [1002, 1003, 1007, 1009, NOT_ALLOWED, TOO_MANY];
export const NOT_SO_SOON = [1011, TRY_LATER, REVOKED, 4429];

// Codes of errors: what they answer may be tried again.
export const NOT_YET = ["unavailable", "rate_limited"];

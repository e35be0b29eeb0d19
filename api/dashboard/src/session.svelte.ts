/** The token of the person who is signed in. */

const KEY = 'lamina-token';

class Session {
  token = $state<string | null>(sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY));
  /** Why the person has to sign in again. */
  notice = $state('');

  signIn(token: string, remember: boolean): void {
    (remember ? localStorage : sessionStorage).setItem(KEY, token);
    this.token = token;
    this.notice = '';
  }

  signOut(notice = ''): void {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
    this.token = null;
    this.notice = notice;
  }
}

export const session = new Session();
